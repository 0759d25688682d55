"""What a request that cannot be done is answered with."""

from __future__ import annotations

from ...errors import ConflictError, EditError, StoreError, on_purpose

_KINDS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    413: "BodyTooLarge",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "Unavailable",
}


class Refused(Exception):
    """A request that is not done, with a message that says why and what to do.

    Args:
        status: the HTTP status; message: for the client; wait: seconds after which asking again makes sense, None where it does not.
    """

    def __init__(self, status: int, message: str, wait: int | None = None):
        super().__init__(message)
        self.status, self.message, self.wait = status, message, wait

    @property
    def kind(self) -> str:
        """The status in a word."""
        return _KINDS.get(self.status, "Error")

    def body(self) -> dict[str, object]:
        """As the errors of vLLM's server look, which OpenAI's clients read."""
        return {"error": {"message": self.message, "type": self.kind, "param": None, "code": self.status}}


def refusal(error: BaseException) -> Refused | None:
    """What an error of the library means to a client; None for a bug."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, ConflictError):
        return Refused(409, str(error))
    if isinstance(error, EditError):
        return Refused(422, f"{error}; try another wording of the prompt or the target")
    if isinstance(error, StoreError):
        return Refused(503, f"the store cannot be written: {error}", wait=5)
    if isinstance(error, (ValueError, TypeError)) and on_purpose(error):
        return Refused(422, str(error))
    return None
