"""What every request passes first: the key, the rate, the size of its body. What is refused here costs no more than its headers."""

from __future__ import annotations

import logging
import time
from typing import Any

from ..replication import RECORDS_PATH
from ..vllm.bodies import App, Message, Receive, Send, answer, limited, most_bytes
from .keys import Caller, Keys
from .limits import Rate
from .refused import Refused
from .sessions import Sessions

_LOG = logging.getLogger("memoir_fast.editing.requests")
_OPEN = ("/health", "/memoir/docs", "/memoir/openapi.json", "/memoir/page/style.css")
PAGE = "/memoir"  # and what lies below /memoir/page
_FAILURES = 30  # wrong keys that one address may send in a minute
_LOGIN = 16 << 10  # bytes of a form that comes without a session


class Gate:
    """ASGI middleware around the service's application.

    Args:
        app: the application. keys: who may come in. per_minute: how many requests each key may make in a minute.
        sessions: of the reviewers' page; None where there is no page.
    """

    def __init__(self, app: App, keys: Keys, per_minute: int, sessions: Sessions | None = None):
        self.app, self.keys, self.sessions = app, keys, sessions
        self._rate, self._failures = Rate(per_minute), Rate(_FAILURES)
        self._most = most_bytes(1)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        told, app, most = _Told(scope, send), self.app, _LOGIN
        try:
            most = self._let_in(scope)
        except Refused as refused:
            app = _refuses(refused)
        await limited(app, scope, receive, told.send, most)
        told.log()

    def wrong(self, address: str) -> Refused:
        """Count a wrong key; how it is answered. Right ones are let in however many wrong ones came: a proxy's clients have one address."""
        wait = self._failures.wait(address)
        if wait:
            return Refused(429, "too many wrong keys came from this address: ask again later, with a right one", wait)
        return Refused(401, "this key is not known: send one of the service's keys as `Authorization: Bearer KEY`")

    def _let_in(self, scope: Message) -> int:
        """Find out who asks; returns how many bytes their body may have. Raises Refused."""
        path, state = scope["path"], scope.setdefault("state", {})
        state["gate"], state["caller"] = self, None
        address = (scope.get("client") or ("unknown", 0))[0]
        if path in _OPEN:
            return _LOGIN
        if path == PAGE or path.startswith(f"{PAGE}/page/"):
            caller = None if self.sessions is None else self.sessions.caller(_header(scope, b"cookie"))
        else:
            caller = self._by_key(scope, address)
        if caller is None:
            return _LOGIN
        state["caller"] = caller
        wait = self._rate.wait(caller.name)
        if wait:
            raise Refused(
                429, f"{caller.name} may make {self._rate.per_minute} requests a minute: ask again later", wait
            )
        return self._most

    def _by_key(self, scope: Message, address: str) -> Caller:
        kind, _, key = _header(scope, b"authorization").partition(" ")
        if not key:
            raise Refused(401, "a key is needed: send the header `Authorization: Bearer KEY`")
        caller = self.keys.find(key.strip()) if kind.lower() == "bearer" else None
        if caller is None:
            raise self.wrong(address)
        return caller


class _Told:
    """Sends an answer, and tells the log of it: not what was asked, for that may hold what nobody else should read."""

    def __init__(self, scope: Message, send: Send):
        self._scope, self._send, self._status, self._began = scope, send, 0, time.monotonic()

    async def send(self, message: Message) -> None:
        """ASGI's send, with headers that keep browsers from guessing and from keeping."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            names = {name.lower() for name, _ in message.get("headers", [])}
            more = [
                (b"x-content-type-options", b"nosniff"),
                (b"referrer-policy", b"same-origin"),
                (b"cache-control", b"no-store"),
            ]
            message = {
                **message,
                "headers": [*message.get("headers", []), *((n, v) for n, v in more if n not in names)],
            }
        await self._send(message)

    def log(self) -> None:
        """One line for the request, whatever line ends its path may hold; replicas ask all the time, which only the log's details tell."""
        caller, path = self._scope["state"].get("caller"), self._scope["path"][:200].encode("unicode_escape").decode()
        level = logging.DEBUG if self._scope["path"] == RECORDS_PATH and self._status == 200 else logging.INFO
        _LOG.log(level, "%s %s %d %.0f ms %s", self._scope["method"], path, self._status, 1000 * (time.monotonic() - self._began),
                  "-" if caller is None else caller.name)  # fmt: skip


def _refuses(refused: Refused) -> App:
    """An application that reads nothing and answers why."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += headers_of(refused)
            await send(message)

        await answer(with_headers, refused.status, dict(refused.body()))

    return app


def headers_of(refused: Refused) -> list[tuple[bytes, bytes]]:
    """What a client needs beside the message."""
    found = [(b"retry-after", str(refused.wait).encode())] if refused.wait is not None else []
    return [*found, (b"www-authenticate", b"Bearer")] if refused.status == 401 else found


def _header(scope: Message, name: bytes) -> str:
    value: Any = next((value for given, value in scope["headers"] if given == name), b"")
    return str(value.decode("latin-1"))
