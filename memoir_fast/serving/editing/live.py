"""Tells a running vLLM of what was stored, until it serves it: `POST /memoir/refresh`, again and again where that is needed."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import threading
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import Future, InvalidStateError
from typing import Any

_LOG = logging.getLogger("memoir_fast.editing")
_FIRST, _LONGEST = 0.1, 10.0  # seconds between two tries
_TIMEOUT = 60.0  # seconds for one try
_MOST = 1 << 16  # bytes of an answer


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Live:
    """What vLLM serves, brought up to date by a thread of its own.

    Args:
        url: of vLLM's server, such as http://127.0.0.1:8000; key: its API key, None where it has none.

    Attributes:
        served: the number of the store's last record that the server has said it serves, -1 before its first word.
        trouble: why the last try failed, "" if it did not.

    Raises:
        ValueError: the url is not one.
    """

    def __init__(self, url: str, key: str | None = None):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ValueError(f"--vllm-url must be like http://127.0.0.1:8000, got {url!r}")
        headers = {"Content-Length": "0", **({"Authorization": f"Bearer {key}"} if key else {})}
        self._request = urllib.request.Request(
            url.rstrip("/") + "/memoir/refresh", data=b"", headers=headers, method="POST"
        )
        self._opener = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))
        self._changed = threading.Condition()
        self._wanted, self._stopped = -1, False
        self._waiting: list[tuple[int, Future[bool]]] = []
        self.served, self.trouble = -1, "it was not asked yet"
        self._thread = threading.Thread(target=self._run, name="memoir-live", daemon=True)
        self._thread.start()

    def tell(self, seq: int) -> Future[bool]:
        """Have the server take up the store's records up to `seq`; the future ends, with True, once it says that it has."""
        done: Future[bool] = Future()
        with self._changed:
            if self.served >= seq:
                done.set_result(True)
            else:
                self._wanted = max(self._wanted, seq)
                self._waiting.append((seq, done))
                self._changed.notify_all()
        return done

    def close(self) -> None:
        """Stop asking; what waits ends with False."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(timeout=1)
        self._end(1 << 62, False)

    def _run(self) -> None:
        pause = _FIRST
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._wanted > self.served)
                wanted = self._wanted
                if self._stopped:
                    return
            try:
                self._take(self._ask(), wanted)
                pause = _FIRST
            except (OSError, ValueError) as error:
                self._failed(error)
                with self._changed:  # what is stored meanwhile is told of at once
                    more = self._changed.wait_for(functools.partial(self._is_more, wanted), pause)
                pause = _FIRST if more else min(2 * pause, _LONGEST)

    def _is_more(self, wanted: int) -> bool:
        return self._stopped or self._wanted > wanted

    def _take(self, served: int, wanted: int) -> None:
        """Keep what the server says that it serves. Raises ValueError where that is less than it was asked for."""
        with self._changed:
            self.served = served
        self._end(served, True)
        if served < wanted:
            raise ValueError(
                f"it serves the store's record {served} of {wanted}: does it read a copy of the store, or another one?"
            )
        self.trouble = ""

    def _ask(self) -> int:
        """One refresh; the last record that the server has. Raises OSError or ValueError where it did not do it."""
        try:
            with self._opener.open(self._request, timeout=_TIMEOUT) as answer:
                text = answer.read(_MOST)
        except urllib.error.HTTPError as error:
            said = ""
            with contextlib.suppress(Exception):
                said = json.loads(error.read(_MOST))["error"]["message"]
            raise ValueError(f"status {error.code}" + (f": {said}" if isinstance(said, str) and said else "")) from None
        found = json.loads(text)
        if not isinstance(found, dict) or type(found.get("seq")) is not int:
            raise ValueError(
                "its answer to /memoir/refresh names no seq: is it a vLLM that `memoir-fast serve` started?"
            )
        return int(found["seq"])

    def _failed(self, error: Exception) -> None:
        reason = str(getattr(error, "reason", "") or error)[:500]
        if reason != self.trouble:
            _LOG.warning("vLLM does not take up the edits, and is asked again: %s", reason)
        self.trouble = reason

    def _end(self, served: int, taken: bool) -> None:
        with self._changed:
            ready = [done for seq, done in self._waiting if seq <= served]
            self._waiting = [(seq, done) for seq, done in self._waiting if seq > served]
        for done in ready:
            with contextlib.suppress(InvalidStateError):  # whoever waited has left
                done.set_result(taken)
