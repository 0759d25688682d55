"""HTTP as an ASGI application speaks it: bodies up to a limit, and answers in JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import numpy as np

# ASGI's names.
Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

ENVIRONMENT = "MEMOIR_FAST_MAX_BODY"
_LEAST, _PER_TOKEN = 4 << 20, 64
_PASSED, _PATIENCE = 64 << 20, 5.0  # bytes and seconds of a body that nobody reads
# Of objects and lists in a body: vLLM lists what is wrong with each of them, many times over, in its event loop. 100,000 empty messages (300 kB) held
# it for 17 seconds; a thousand empty items of /v1/responses (3 kB) for 3 seconds, with a message of 450 MB.
MOST_PARTS, MOST_PARTS_OF_RESPONSES = 8192, 1024
_UNMARKED = bytes(set(range(256)) - set(b'"{['))


class BodyTooLarge(Exception):
    """A request's body is longer than the limit, or holds more parts."""


def most_bytes(max_model_len: int) -> int:
    """The limit for bodies: `MEMOIR_FAST_MAX_BODY`, or 4 MiB, or 64 bytes for each token of the longest prompt, if that is more.

    Raises:
        ValueError: the variable is no positive number of bytes.
    """
    given = os.environ.get(ENVIRONMENT)
    if given is None:
        return max(_LEAST, _PER_TOKEN * max_model_len)
    if not given.isascii() or not given.isdigit() or not int(given):
        raise ValueError(f"{ENVIRONMENT} must be a number of bytes, got {given[:100]!r}: give one, or leave it out")
    return int(given)


async def limited(
    app: App, scope: Message, receive: Receive, send: Send, most: int, most_parts: int = MOST_PARTS
) -> bool:
    """Let an application answer, but read at most `most` bytes of the body; longer ones, and those of more than `most_parts` objects and lists, get
    status 413. Returns whether that happened.

    Nothing is read here before the application asks for it: what it refuses by the headers alone (a request without the key) costs nothing.
    """
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    announced = int(declared) if declared.isdigit() and len(declared) < 20 else 0
    parts: list[bytes] = []
    refusal, answering, whole, ended = "", False, False, False

    async def checked() -> Message:
        """The whole body, and then whatever comes (the client's leaving)."""
        nonlocal refusal, whole, ended
        if whole:
            return await receive()
        length, more = 0, True
        while more and max(length, announced) <= most:
            message = await receive()
            ended = not message.get("more_body", False)
            if message["type"] != "http.request":
                return message
            parts.append(message.get("body", b""))
            length, more = length + len(parts[-1]), not ended
        if max(length, announced) > most:
            refusal = f"the body is longer than {most} bytes: send less, or start the server with {ENVIRONMENT}"
            raise BodyTooLarge
        body = b"".join(parts)
        parts.clear()
        if await asyncio.to_thread(has_more_parts, body, most_parts):
            refusal = f"the body holds more than {most_parts} objects and lists: send less"
            raise BodyTooLarge
        whole = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def unless_refused(message: Message) -> None:
        nonlocal answering
        if refusal and not answering:
            return  # what the application makes of a body that breaks off
        if not answering and not ended:
            await _let_pass(receive, scope)
        answering = True
        await send(message)

    with contextlib.suppress(BodyTooLarge):
        await app(scope, checked, unless_refused)
    if refusal and not answering:
        if not ended:
            await _let_pass(receive, scope)
        await answer(send, 413, error(refusal, "BodyTooLarge", 413))
    return bool(refusal)


async def _let_pass(receive: Receive, scope: Message) -> None:
    """Take what a client still sends, up to a limit, and forget it: a server that closes the connection on a client that writes resets it, and the
    client never sees the answer. One that asks before it sends (`Expect`) is answered first."""
    names = {name for name, _ in scope["headers"]}
    if b"expect" in names or not names & {b"content-length", b"transfer-encoding"}:
        return
    length, end = 0, time.monotonic() + _PATIENCE
    with contextlib.suppress(asyncio.TimeoutError):
        while length < _PASSED:
            message = await asyncio.wait_for(receive(), max(0.0, end - time.monotonic()))
            length += len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body", False):
                return


def has_more_parts(body: bytes, most: int) -> bool:
    """Whether a JSON text opens more than `most` objects and lists, without reading it as JSON."""
    if body.count(b"{") + body.count(b"[") <= most:
        return False
    # The codings that `json.loads` takes; what is in none of them, nobody reads.
    with contextlib.suppress(UnicodeDecodeError):
        body = body.decode(json.detect_encoding(body), "surrogatepass").encode("utf-8", "surrogatepass")
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _UNMARKED)
    marks = np.frombuffer(bare, np.uint8)  # a regular expression would let no other thread run
    quotes = marks == ord('"')
    return int(np.count_nonzero(~quotes & ~np.logical_xor.accumulate(quotes))) > most


def error(message: str, kind: str, status: int) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


async def answer(send: Send, status: int, value: dict[str, Any]) -> None:
    """Send a JSON answer."""
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
