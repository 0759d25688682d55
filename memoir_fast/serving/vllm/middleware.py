"""What our server adds to vLLM's OpenAI server (its `--middleware`): the words of a chat that route, counters, and refreshing.

POST /v1/chat/completions   the last user message's tokens become `memoir_span`, unless the request says otherwise
GET  /metrics               memoir_fast_requests_total{outcome}, memoir_fast_edits, memoir_fast_generation
POST /memoir/refresh        take up the store's present edits
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias

from ...text.encoder import Encoder
from .live import Snapshot, summed

# ASGI's names.
Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

_TEMPLATED = ("tools", "documents", "chat_template", "chat_template_kwargs", "continue_final_message")
_OUTCOMES = ("matched", "unmatched", "off", "refused")


class Middleware:
    """ASGI middleware around vLLM's application."""

    def __init__(self, app: App):
        self.app = app
        self._encoder: Encoder | None = None
        self._metrics: tuple[Any, Any, Any, dict[str, int]] | None = None
        self._refreshing = asyncio.Lock()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        method, path = scope["method"], scope["path"]
        if method == "POST" and path == "/memoir/refresh":
            return await self._refresh(_engine(scope), send)
        if method == "GET" and path.rstrip("/") == "/metrics":
            await self._count(_engine(scope))
        if method == "POST" and path == "/v1/chat/completions":
            body = await _body(receive)
            try:
                body = self._with_span(_engine(scope), body)
            except ValueError as error:
                return await _answer(
                    send, 400, {"error": {"message": str(error), "type": "BadRequestError", "code": 400}}
                )
            headers = [(k, v) for k, v in scope["headers"] if k != b"content-length"]
            scope = {**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}
            receive = _replay(body, receive)
        return await self.app(scope, receive, send)

    async def _refresh(self, engine: Any, send: Send) -> None:
        try:
            async with self._refreshing:
                settings = engine.vllm_config.model_config.hf_config.memoir
                snapshot = await asyncio.to_thread(Snapshot, settings)
                with snapshot:
                    found = snapshot.agreed(await engine.collective_rpc("memoir_load", args=(str(snapshot.path),)))
        except (ValueError, OSError, RuntimeError) as error:
            return await _answer(send, 500, {"error": {"message": str(error), "type": "RefreshError", "code": 500}})
        return await _answer(send, 200, found)

    async def _count(self, engine: Any) -> None:
        """Bring the counters up to date before they are read."""
        if self._metrics is None:
            from prometheus_client import Counter, Gauge

            self._metrics = (
                Counter("memoir_fast_requests", "Requests by what the memory did for them.", ["outcome"]),
                Gauge("memoir_fast_edits", "Active edits."),
                Gauge("memoir_fast_generation", "How often the edits were refreshed."),
                dict.fromkeys(_OUTCOMES, 0),
            )
        requests, edits, generation, seen = self._metrics
        found = summed(await engine.collective_rpc("memoir_counts"))
        for outcome in _OUTCOMES:
            requests.labels(outcome).inc(found[outcome] - seen[outcome])
            seen[outcome] = found[outcome]
        edits.set(found["edits"])
        generation.set(found["generation"])

    def _with_span(self, engine: Any, body: bytes) -> bytes:
        request = None
        with suppress(ValueError):
            request = json.loads(body)
        if not isinstance(request, dict) or not isinstance(request.get("messages"), list):
            return body  # vLLM says what is wrong with it
        extra = request.get("vllm_xargs") or {}
        if not isinstance(extra, dict) or {"memoir", "memoir_span", "memoir_edit"} & extra.keys():
            return body
        changed = [name for name in _TEMPLATED if request.get(name)]
        if changed:
            raise ValueError(
                f"{', '.join(changed)}: the rendered chat is then not known here, so neither are the user's words that choose an edit. "
                'Give vllm_xargs.memoir_span, or vllm_xargs.memoir = "off"'
            )
        messages = [
            {**m, "content": _text(m.get("content"))} if isinstance(m, dict) else m for m in request["messages"]
        ]
        if not any(isinstance(m, dict) and m.get("role") == "user" for m in messages):
            return body
        if self._encoder is None:
            from transformers import AutoTokenizer

            self._encoder = Encoder(AutoTokenizer.from_pretrained(engine.vllm_config.model_config.tokenizer), True)
        request["vllm_xargs"] = {**extra, "memoir_span": list(self._encoder.chat(messages).words)}
        return json.dumps(request).encode()


def _text(content: Any) -> Any:
    """A message's text, which may come in parts."""
    if isinstance(content, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in content):
        return "\n".join(p.get("text", "") for p in content)
    return content


def _engine(scope: Message) -> Any:
    return scope["app"].state.engine_client


async def _body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once, then whatever comes (the client's leaving)."""
    given = False

    async def once() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once


async def _answer(send: Send, status: int, value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
