"""Which edit spoke: what the memory decided for an HTTP request, in the answer's header, in its body, and in a log.

A request asks with `vllm_xargs.memoir_explain`, or with the header `X-Memoir-Explain: 1` where it cannot change its body. The answer's header `X-Memoir`
holds a JSON list, one object for each prompt in the request's order, or null for one that was not decided when the answer began. An answer that is one
JSON object also has the list as its field `memoir`. The events of a stream are left alone: each route has its own kinds, numbered in some, and clients
that check them would refuse ours.

`Asked` belongs to one HTTP request. The engine's front end finds it in the context that it runs in, wherever vLLM's routes lead.
"""

from __future__ import annotations

import contextvars
import datetime
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .answers import KEY, Decision, Slots
from .bodies import Message, Receive, Send
from .choice import Choice
from .request_log import RequestLog

HEADER, ANSWER, FIELD = b"x-memoir-explain", b"x-memoir", "memoir"
MOST_IN_HEADER = 16  # prompts: clients and proxies take headers of a few kilobytes
_WORD = b"memoir_explain"
_NUMBER = re.compile(r"[-_](\d+)$")  # behind the requests of one body with several prompts
_current: contextvars.ContextVar[Asked | None] = contextvars.ContextVar("memoir_asked", default=None)


class Explainer:
    """What all HTTP requests of a front end share: its slots, and the log."""

    def __init__(self) -> None:
        self.log = RequestLog.of_environment()
        self._slots: Slots | None = None

    @property
    def slots(self) -> Slots:
        """This front end's; made when first needed, in the process that needs them."""
        self._slots = self._slots or Slots()
        return self._slots

    @contextmanager
    def request(self, scope: Message) -> Iterator[Asked]:
        """While an HTTP request is answered."""
        asked = Asked(self, scope)
        token = _current.set(asked)
        try:
            yield asked
        finally:
            _current.reset(token)
            asked.close()


class Asked:
    """One HTTP request.

    Args:
        scope: ASGI's.
    """

    def __init__(self, shared: Explainer, scope: Message):
        self._shared, self._scope = shared, scope
        self._wanted = any(name == HEADER and value not in (b"", b"0", b"false") for name, value in scope["headers"])
        self._mentioned = self._wanted  # whether the answer may have to say it
        self._prompts: list[tuple[str, list[Any] | None]] = []
        self._held: list[Message] | None = []
        self._tail, self._noted = b"", False
        self._status, self._closed, self._began = 0, False, time.time()

    def note(self, request: str, params: Any) -> None:
        """One of its prompts goes to the engine; params: the engine's own copy of its sampling parameters, which get a slot if one is needed."""
        self._noted, self._wanted = True, self._wanted or Choice.of(params.extra_args).explain
        if self._closed or not (self._wanted or self._shared.log):
            return
        slot = self._shared.slots.take()
        if slot is not None:
            params.extra_args = {**(params.extra_args or {}), KEY: slot}
        self._prompts.append((request, slot))

    def decisions(self) -> list[tuple[str, Decision | None]]:
        """What is known by now of each prompt, in the request's order, with the names that vLLM gave them."""

        def place(one: tuple[str, Any]) -> int:
            found = _NUMBER.search(one[0]) if len(self._prompts) > 1 else None
            return int(found[1]) if found else 0

        ordered = sorted(self._prompts, key=place)
        return [(name, None if slot is None else self._shared.slots.decision(slot)) for name, slot in ordered]

    def close(self) -> None:
        """The request has been answered, or its client has gone."""
        self._closed = True
        if self._shared.log and (self._prompts or self._status >= 400):
            self._shared.log.write({
                "time": _at(self._began), "seconds": round(time.time() - self._began, 3), "method": self._scope["method"], "path": self._scope["path"],
                "status": self._status,
                "prompts": [{"request": name, **(_unknown() if one is None else one.told())} for name, one in self.decisions()],
            })  # fmt: skip
        for _, slot in self._prompts:
            if slot is not None:
                self._shared.slots.give_back(slot)

    # ---- what passes by ------------------------------------------------------------------------------------------

    def receiving(self, receive: Receive) -> Receive:
        """The same, watched for a body that may ask: some streams begin before the engine has seen their request."""

        async def watched() -> Message:
            message = await receive()
            if not self._mentioned and message["type"] == "http.request":
                seen = self._tail + message.get("body", b"")
                self._mentioned, self._tail = _WORD in seen, seen[-len(_WORD) :]
            return message

        return watched

    def sending(self, send: Send) -> Send:
        """The same, which holds an answer that has to say it until it can."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
                if not (self._mentioned or self._wanted):
                    self._held = None
            if self._held is None:
                return await send(message)
            self._held.append(message)
            if self._ready(message):
                held, self._held = self._held, None
                for one in self._explained(held) if self._wanted else held:
                    await send(one)

        return told

    def _ready(self, message: Message) -> bool:
        """Whether what is held may go: all of a JSON answer, or a stream as soon as one of its prompts is decided, or none has asked."""
        if message["type"] != "http.response.body":
            return False
        assert self._held is not None
        streams = _header(self._held[0], b"content-type").startswith(b"text/event-stream")
        if not message.get("more_body", False) or (self._noted and not self._wanted):
            return True
        return streams and any(one for _, one in self.decisions())

    def _explained(self, held: list[Message]) -> list[Message]:
        """An answer with the header, and the field where its body is one JSON object."""
        found = [None if one is None else one.told() for _, one in self.decisions()]
        if not found:
            return held
        start, bodies = held[0], held[1:]
        headers = [(name, value) for name, value in start.get("headers", []) if name.lower() != ANSWER]
        headers.append((ANSWER, json.dumps(found[:MOST_IN_HEADER]).encode()))
        text = b"".join(message.get("body", b"") for message in bodies)
        plain = _header(start, b"content-type").startswith(b"application/json") and not _header(
            start, b"content-encoding"
        )
        if plain and text[:1] == b"{" and text[1:2] not in (b"}", b""):
            text = b"{" + json.dumps(FIELD).encode() + b":" + json.dumps(found).encode() + b"," + text[1:]
            headers = [(name, value) for name, value in headers if name.lower() != b"content-length"]
            headers.append((b"content-length", str(len(text)).encode()))
            bodies = [{"type": "http.response.body", "body": text}]
        return [{**start, "headers": headers}, *bodies]


def note(request: Any) -> None:
    """A request with its final name goes to the engine; for `admission.py`.

    Raises:
        ValueError: it asks which edit is read where nobody can say it.
    """
    params, asked = request.sampling_params, _current.get()
    if params is None:
        return
    if KEY in (params.extra_args or {}):  # only this process gives slots
        params.extra_args = {name: value for name, value in params.extra_args.items() if name != KEY}
    if asked is not None:
        asked.note(request.external_req_id, params)
    elif (params.extra_args or {}).get("memoir_explain"):
        raise ValueError(
            "vllm_xargs: memoir_explain is answered over HTTP, by a server that was started by memoir-fast serve or with its --middleware; "
            "offline, MemoirModel.route tells which edit a prompt reads"
        )


def _header(start: Message, name: bytes) -> bytes:
    return next((bytes(value) for key, value in start.get("headers", []) if key.lower() == name), b"")


def _at(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="milliseconds")


def _unknown() -> dict[str, Any]:
    return dict.fromkeys(("outcome", "edit", "nearest", "score", "threshold"))
