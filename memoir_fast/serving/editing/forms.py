"""Forms of the reviewers' page: what a browser sends, checked to come from the page itself."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from fastapi import Request

from .facts import Fact
from .refused import Refused
from .sessions import Session, same_word

_MOST = 64  # fields
_LONGEST = 20_000  # characters of a field


async def read_form(request: Request) -> dict[str, str]:
    """A form's fields. Raises Refused for what is no form, or came from another site."""
    _from_here(request)
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Refused(422, "this takes a form of the page; programs use the routes that /memoir/docs lists")
    try:
        text = (await request.body()).decode("ascii")
        fields = dict(
            parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=_MOST)
        )
    except ValueError:
        raise Refused(422, "this is no form of the page: load the page again") from None
    if any(len(value) > _LONGEST for value in fields.values()):
        raise Refused(422, f"a field holds more than {_LONGEST} characters: shorten it")
    return {name: value.replace("\r\n", "\n") for name, value in fields.items()}


async def read_own_form(request: Request, session: Session) -> dict[str, str]:
    """The fields of a form that this session was given. Raises Refused for any other one."""
    fields = await read_form(request)
    if not same_word(session, fields.pop("word", "")):
        raise Refused(403, "the form is of another session: load the page again, and send it once more")
    return fields


def fact_of(fields: dict[str, str]) -> Fact:
    """The fact that a form states; lists have a line for each text. Raises Refused where it cannot be stored."""

    def lines(name: str) -> list[str]:
        return [line.strip() for line in fields.get(name, "").split("\n") if line.strip()]

    return Fact(fields.get("prompt", "").strip(), fields.get("target", "").strip(), lines("rephrasings"), lines("not_prompts"),
                fields.get("subject", "").strip(), fields.get("key", "").strip(), fields.get("author", "").strip(), lines("tags")).checked()  # fmt: skip


def _from_here(request: Request) -> None:
    """Raise Refused where the browser says that another site sent the form."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        here = site in ("same-origin", "none")
    else:  # browsers leave it out over plain HTTP; a proxy may change the host's name
        here = origin is None or urlsplit(origin).netloc == request.headers.get("host", "")
    if not here:
        raise Refused(403, "the form came from another site; nothing was done")
