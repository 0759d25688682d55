"""Asks another server over HTTP: with its key, within limits, and never somewhere else."""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

_MOST_ERROR = 1 << 16  # bytes of an answer that says why
_PART = 1 << 20


class NotAnswered(Exception):
    """A server did not do what it was asked for; the message says why.

    Args:
        status: of its answer, None where it gave none; wait: seconds after which it said that asking again makes sense.
    """

    def __init__(self, reason: str, status: int | None = None, wait: float | None = None):
        super().__init__(reason)
        self.status, self.wait = status, wait


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Client:
    """A server.

    Args:
        url: such as http://127.0.0.1:8000; key: what it is sent as a bearer, None for none.
        what: the option that names it, for messages.

    Raises:
        ValueError: the url is not one.
    """

    def __init__(self, url: str, key: str | None, what: str):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ValueError(f"{what} must be like http://127.0.0.1:8000, got {url!r}")
        self.url, self._key = url.rstrip("/"), key
        self._opener = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))

    def ask(
        self, path: str, most: int, timeout: float, data: bytes | None = None, secret: bool = True
    ) -> tuple[bytes, dict[str, str]]:
        """An answer's bytes and headers (names in lower case).

        Args:
            most: bytes that the answer may have; timeout: seconds of silence; data: of a POST; secret: whether the key is sent.

        Raises:
            NotAnswered: there is no answer, it is longer, or it ends too early.
        """
        with self._opened(path, timeout, data, secret) as answer:
            text: bytes = answer.read(most + 1)
            if len(text) > most:
                raise NotAnswered(f"its answer to {path.partition('?')[0]} is longer than {most} bytes")
            _check_length(answer, len(text), path)
            return text, {name.lower(): value for name, value in answer.headers.items()}

    def fetch(self, path: str, to: Path, most: int, timeout: float) -> None:
        """Write an answer to a file, part by part. Raises as `ask`, and OSError where the file cannot be written."""
        with self._opened(path, timeout, None, True) as answer, to.open("wb") as file:
            length = 0
            while part := answer.read(_PART):
                length += len(part)
                if length > most:
                    raise NotAnswered(f"its answer to {path.partition('?')[0]} is longer than {most} bytes")
                file.write(part)
            _check_length(answer, length, path)

    @contextlib.contextmanager
    def _opened(self, path: str, timeout: float, data: bytes | None, secret: bool) -> Any:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key and secret else {}
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            said, wait = "", error.headers.get("retry-after", "")
            with contextlib.suppress(Exception):
                said = json.loads(error.read(_MOST_ERROR))["error"]["message"]
            told = f": {said}" if isinstance(said, str) and said else ""
            raise NotAnswered(
                f"status {error.code}{told}", error.code, float(wait) if wait.isdigit() and len(wait) < 6 else None
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise NotAnswered(str(getattr(error, "reason", "") or error or type(error).__name__)[:500]) from None


def _check_length(answer: Any, length: int, path: str) -> None:
    """Raise NotAnswered for an answer that ended too early: a read of a given size does not complain."""
    declared = answer.headers.get("content-length")
    if declared is not None and declared != str(length):
        raise NotAnswered(f"its answer to {path.partition('?')[0]} ended after {length} of {declared} bytes")
