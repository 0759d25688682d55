"""What the service asks of a running vLLM."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

_TIMEOUT = 60.0  # seconds for one request
_MOST, _MOST_METRICS = 1 << 16, 16 << 20  # bytes of an answer
_GENERATION = re.compile(r"^memoir_fast_generation (\d+)", re.MULTILINE)


class NotServed(Exception):
    """vLLM did not do what it was asked for; the message says why."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Served:
    """A vLLM server.

    Args:
        url: such as http://127.0.0.1:8000; key: its API key, None where it has none.

    Raises:
        ValueError: the url is not one.
    """

    def __init__(self, url: str, key: str | None = None):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ValueError(f"--vllm-url must be like http://127.0.0.1:8000, got {url!r}")
        self._url, self._key = url.rstrip("/"), key
        self._opener = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))

    def refresh(self) -> tuple[int, int]:
        """Have it take up the store's edits; (the store's last record that it serves now, its generation). Raises NotServed."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        text = self._answer(urllib.request.Request(f"{self._url}/memoir/refresh", b"", headers, method="POST"), _MOST)
        with contextlib.suppress(ValueError):
            found = json.loads(text)
            if isinstance(found, dict) and type(found.get("seq")) is type(found.get("generation")) is int:
                return found["seq"], found["generation"]
        raise NotServed("its answer to /memoir/refresh names no seq: is it a vLLM that `memoir-fast serve` started?")

    def generation(self) -> int:
        """How often it has taken up edits since it started. Raises NotServed."""
        text = self._answer(urllib.request.Request(f"{self._url}/metrics"), _MOST_METRICS)
        found = _GENERATION.search(text.decode("utf-8", "replace"))
        if found is None:
            raise NotServed("its /metrics name no memoir_fast_generation")
        return int(found[1])

    def _answer(self, request: urllib.request.Request, most: int) -> bytes:
        try:
            with self._opener.open(request, timeout=_TIMEOUT) as answer:
                text: bytes = answer.read(most)
                return text
        except urllib.error.HTTPError as error:
            said = ""
            with contextlib.suppress(Exception):
                said = json.loads(error.read(_MOST))["error"]["message"]
            told = f": {said}" if isinstance(said, str) and said else ""
            raise NotServed(f"status {error.code}{told}") from None
        except (OSError, http.client.HTTPException) as error:
            raise NotServed(str(getattr(error, "reason", "") or error or type(error).__name__)[:500]) from None
