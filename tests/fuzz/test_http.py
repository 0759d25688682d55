"""The fuzzer of HTTP bodies finds what it looks for; servers are asked by `python -m tests.fuzz --url`."""

from __future__ import annotations

import json
import time

import pytest

from . import http


def _app(fault=""):
    """A small application that reads JSON as it should, or has a fault where a message's role is something else than text."""

    async def app(scope, receive, send):
        data, more = b"", True
        while more:
            message = await receive()
            data, more = data + message.get("body", b""), message.get("more_body", False)
        try:
            value = json.loads(data)
            roles = [one["role"] for one in value["messages"]] if scope["path"] == "/v1/chat/completions" else []
            status, said = 200, b"{}"
        except (ValueError, KeyError, TypeError, RecursionError):
            status, said, roles = 400, b"{}", []
        if fault and not all(isinstance(role, str) for role in roles):
            if fault == "raises":
                raise KeyError("role")
            if fault == "slow":
                time.sleep(0.3)
            status, said = (
                (500, b"Traceback (most recent call last)")
                if fault == "fails"
                else (status, b"Traceback (most recent call last)")
            )
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": said})

    return app


@pytest.mark.parametrize(
    "fault, says",
    [("", ""), ("raises", "no answer: KeyError"), ("fails", "status 500"), ("slow", "took"), ("tells", "a traceback")],
)
def test_what_must_not_happen_is_seen(fault, says, monkeypatch):
    monkeypatch.setattr(http, "SLOWEST", 0.2)
    monkeypatch.setattr(http, "LONGEST_ANSWER", 0.2)
    found = http.fuzz_http(http.over_asgi(_app(fault)), "m", 400)
    assert sum(found.statuses.values()) + sum("no answer" in wrong for _, wrong, _ in found.findings) == 400
    assert found.statuses[200] > 20 and found.statuses[400] > 20
    assert bool(found.findings) == bool(fault) and all(says in wrong for _, wrong, _ in found.findings), found.findings[
        :3
    ]


def test_an_answer_without_the_key_is_seen():
    found = http.fuzz_http(http.over_asgi(_app()), "m", 100, key="k")
    assert {wrong for _, wrong, _ in found.findings} == {"answered without the API key"}
