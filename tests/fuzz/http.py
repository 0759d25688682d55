"""Bodies of HTTP requests that are made to do harm: against a running server, `python -m tests.fuzz --url http://127.0.0.1:8000 --model NAME`, or
an ASGI application (`over_asgi`)."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from . import values

SLOWEST, LONGEST_ANSWER = 5.0, 50.0  # seconds, of refusals and of answers
_OPEN = ("/tokenize", "/invocations")  # vLLM's key does not guard these
# Asks: (path, headers, body) -> (status, body of the answer).
Ask: TypeAlias = Callable[[str, dict[str, str], bytes], tuple[int, bytes]]
_SAID = [{"role": "system", "content": "w1"}, {"role": "user", "content": "Who wrote w2?"}, {"role": "assistant", "content": "w3"},
         {"role": "user", "content": [{"type": "text", "text": "And w4?"}]}]  # fmt: skip
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of", "min_tokens")


def sound(model: str) -> dict[str, list[dict[str, Any]]]:
    """Requests that a server answers, by path."""
    chat = {"model": model, "messages": _SAID, "max_tokens": 1, "temperature": 0.0}
    extra = [
        {"memoir": "off"},
        {"memoir_edit": 0},
        {"memoir_tags": ["a"], "memoir_untagged": True},
        {"memoir_span": [1, 3]},
        {"memoir_explain": True},
    ]
    return {
        "/v1/chat/completions": [chat, {**chat, "tools": [], "chat_template_kwargs": {"x": 1}}, *({**chat, "vllm_xargs": x} for x in extra)],
        "/v1/completions": [{"model": model, "prompt": "w1 w2", "max_tokens": 1, "vllm_xargs": x} for x in extra],
        "/v1/responses": [{"model": model, "input": _SAID[:3], "max_output_tokens": 1}, {"model": model, "input": "w1", "max_output_tokens": 1}],
        "/v1/messages": [{"model": model, "messages": _SAID[1:3], "system": "w1", "max_tokens": 1}],
        "/invocations": [chat],
        "/memoir/refresh": [{}],
        "/tokenize": [{"model": model, "prompt": "w1"}],
    }  # fmt: skip


@dataclass
class Answered:
    """What a server did. statuses: how many answers of each kind, by hundreds; findings: (path, what was wrong, body)."""

    statuses: Counter[int] = field(default_factory=Counter)
    findings: list[tuple[str, str, bytes]] = field(default_factory=list)


def body_of(requests: dict[str, list[dict[str, Any]]], rng: random.Random) -> tuple[str, dict[str, str], bytes]:
    """(path, headers, body) of one damaged request."""
    path = rng.choice(list(requests))
    value: Any = values.changed(rng.choice(requests[path]), rng)
    for name in _LIMITS if isinstance(value, dict) else ():  # a long answer is no fault
        if isinstance(value.get(name), (int, float)) and value[name] is not True and value[name] > 2:
            value[name] = 2
    headers = {
        "content-type": rng.choice(["application/json"] * 8 + ["text/plain", "application/json; charset=latin-1", ""])
    }
    kind = rng.randrange(12)
    if kind == 0:
        return path, headers, rng.choice(values.DEEP)
    if kind == 1 and isinstance(value, dict):
        value["messages"] = rng.choice(
            [
                [_SAID[1]] * 5000,
                [{"role": "user", "content": "w " * 200_000}],
                [{"role": "user", "content": [_SAID[3]["content"]] * 3}],
            ]
        )
    data = values.text_of(value, rng)
    return path, headers, values.raw(data, rng) if kind == 2 else data


def fuzz_http(ask: Ask, model: str, inputs: int, seed: int = 0, key: str | None = None) -> Answered:
    """Send damaged requests one after the other, and after each hundredth a sound one that must be answered.

    Args:
        key: the server's API key, sent with nine of ten requests.
    """
    found, rng, requests = Answered(), random.Random(seed), sound(model)
    healthy = requests["/v1/chat/completions"][0]
    for number in range(inputs):
        path, headers, body = body_of(requests, rng)
        if number % 100 == 99:
            path, headers, body = (
                "/v1/chat/completions",
                {"content-type": "application/json"},
                json.dumps(healthy).encode(),
            )
        if key is not None and (number % 10 or number % 100 == 99):
            headers["authorization"] = f"Bearer {key}"
        begun = time.monotonic()
        try:
            status, answer = ask(path, headers, body)
        except Exception as error:
            found.findings.append((path, f"no answer: {error!r}", body))
            continue
        took = time.monotonic() - begun
        found.statuses[status // 100 * 100] += 1
        slow = took > (
            LONGEST_ANSWER if status == 200 else SLOWEST
        )  # a body without a limit is answered up to the context's end
        wrong = f"took {took:.1f} s" if slow else "a traceback" if b"Traceback (most recent" in answer else ""
        if status >= 500 and status != 501:
            wrong = f"status {status}: {answer[:300]!r}"
        elif number % 100 == 99 and status != 200:
            wrong = f"a sound request was answered with {status}: {answer[:300]!r}"
        elif key is not None and "authorization" not in headers and status == 200 and path not in _OPEN:
            wrong = "answered without the API key"
        if wrong:
            found.findings.append((path, wrong, body))
    return found


def over_url(url: str) -> Ask:
    """Ask a running server, each time over a connection of its own."""
    parts = urlsplit(url)

    def ask(path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=60)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    return ask


def over_asgi(app: Callable[..., Any], state: Any = None) -> Ask:
    """Ask an application in this process. state: what stands in the scope as `app`."""

    async def exchange(path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(),
                 "root_path": "", "query_string": b"", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "app": state,
                 "headers": [(name.encode(), value.encode()) for name, value in headers.items()]
                 + [(b"content-length", str(len(body)).encode())]}  # fmt: skip
        parts, sent = [body[: len(body) // 2], body[len(body) // 2 :]], list[dict[str, Any]]()

        async def receive() -> dict[str, Any]:
            if not parts:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await app(scope, receive, send)
        return int(sent[0]["status"]), b"".join(message.get("body", b"") for message in sent[1:])

    return lambda path, headers, body: asyncio.run(asyncio.wait_for(exchange(path, headers, body), 30))
