"""Bodies up to a limit, in front of an application that may refuse a request by its headers."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
import tracemalloc

import pytest

from memoir_fast.serving.vllm.bodies import MOST_PARTS, answer, has_more_parts, limited, most_bytes


def _asked(app, parts, most=100, headers=()):
    """What a client gets, how many parts of its body were read, and whether the body was too long."""
    sent, taken = [], []

    async def receive():
        taken.append(len(taken))
        at = len(taken) - 1
        if at >= len(parts):
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": parts[at], "more_body": at < len(parts) - 1}

    async def send(message):
        sent.append(message)

    over = asyncio.run(limited(app, {"type": "http", "headers": list(headers)}, receive, send, most))
    body = b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
    return sent[0]["status"], json.loads(body), len(taken), over


async def _reads(scope, receive, send):
    """As frameworks do: an error while the body is read becomes an answer of status 400."""
    body, more = b"", True
    try:
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
    except Exception:
        return await answer(send, 400, {"detail": "There was an error parsing the body"})
    await answer(send, 200, {"length": len(body)})


async def _refuses(scope, receive, send):
    await answer(send, 401, {"error": "Unauthorized"})


async def _reads_openly(scope, receive, send):
    while True:
        await receive()


def test_a_body_within_the_limit_arrives_as_it_is():
    assert _asked(_reads, [b"x" * 60, b"y" * 40]) == (200, {"length": 100}, 2, False)


@pytest.mark.parametrize("app", [_reads, _reads_openly])
@pytest.mark.parametrize(
    ("headers", "read"),
    [([(b"content-length", b"4500")], 50), ([(b"content-length", b"4500"), (b"expect", b"100-continue")], 0), ([(b"content-length", b"x")], 50), ([], 2)],
)  # fmt: skip
def test_a_longer_one_is_refused_as_soon_as_that_is_known(app, headers, read):
    status, told, taken, over = _asked(app, [b"x" * 90] * 50, headers=headers)
    assert (status, taken, over) == (413, read, True)
    assert told["error"]["code"] == 413 and "longer than 100 bytes" in told["error"]["message"]
    assert "MEMOIR_FAST_MAX_BODY" in told["error"]["message"]


def test_a_body_of_very_many_parts_is_refused_and_brackets_in_texts_are_none():
    code = json.dumps({"messages": [{"role": "user", "content": '{["\\"]}' * 20_000}]}).encode()
    assert _asked(_reads, [code[:9], code[9:]], most=1 << 20)[:2] == (200, {"length": len(code)})
    for many in (
        b'{"messages": [' + b",".join([b"{}"] * MOST_PARTS) + b"]}",
        b"[" * 500_000,
        b'{"x":"' + b'"{["' * 5000,
    ):
        status, told, _, over = _asked(_reads, [many], most=1 << 20)
        assert (status, over) == (413, True) and "objects and lists" in told["error"]["message"]


def test_the_parts_of_any_json_are_counted_and_none_in_its_texts():
    texts = ("", '"', "\\", '\\"', '\\\\"[', "{[", 'a"\\', "\n[", "Ģ", "[\u2200", "{💡")
    chosen = random.Random(7)

    def value(depth):
        kind = chosen.random()
        if depth > 4 or kind < 0.5:
            return "".join(chosen.choices(texts, k=chosen.randrange(4)))
        if kind < 0.75:
            return [value(depth + 1) for _ in range(chosen.randrange(5))]
        return {value(9): value(depth + 1) for _ in range(chosen.randrange(5))}

    for number in range(600):
        text = json.dumps([value(0), value(0)], ensure_ascii=bool(number % 2), indent=number % 3 or None)
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
        parts = bare.count("[") + bare.count("{")
        for coding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"):  # `json.loads` reads them all
            body = text.encode(coding)
            assert not has_more_parts(body, parts) and has_more_parts(body, parts - 1), body
    assert has_more_parts(b"\xff\xfe" + b"[" * 9, 8)  # no text of any coding


@pytest.mark.parametrize("piece", [b'\\"', b"\\\\", b'"', b'""[', b'"\\"', b"x"])
def test_counting_parts_takes_time_and_memory_in_proportion_to_the_body(piece):
    def seconds(length):
        body, took = b"[" * 9000 + b'"' + piece * (length // len(piece)), []
        for _ in range(3):
            start = time.perf_counter()
            has_more_parts(body, MOST_PARTS)
            took.append(time.perf_counter() - start)
        return min(took)

    assert seconds(256 << 10) < 12 * seconds(32 << 10) + 0.02  # eightfold; the square is sixty-fourfold
    body = b"[" * 9000 + b'"' + piece * ((1 << 20) // len(piece))
    tracemalloc.start()
    has_more_parts(body, MOST_PARTS)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 12 * len(body)


def test_a_client_that_leaves_is_told_to_the_application():
    async def waits(scope, receive, send):
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        await answer(send, 200, {})

    assert _asked(waits, [b"{}"]) == (200, {}, 2, False)
    gone = []

    async def reads(scope, receive, send):
        gone.append((await receive())["type"])
        await answer(send, 200, {})

    assert _asked(reads, []) == (200, {}, 1, False) and gone == ["http.disconnect"]


def test_what_is_refused_by_its_headers_is_answered_when_the_client_has_sent_it_all_or_asks_first():
    """A server that closes the connection while the client sends resets it, and the answer is lost."""
    large = [(b"content-length", b"4500")]
    assert _asked(_refuses, [b"x" * 90] * 50, headers=large) == (401, {"error": "Unauthorized"}, 50, False)
    assert _asked(_refuses, [b"x" * 90] * 50, headers=[*large, (b"expect", b"100-continue")])[2] == 0
    assert _asked(_refuses, [b"x"] * 9)[2] == 0  # no body was announced
    most = 64 << 20  # of that it is not read to the end
    assert _asked(_refuses, [b"x" * (1 << 20)] * 80, headers=[(b"transfer-encoding", b"chunked")])[2] == most >> 20


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("memoir_fast.serving.vllm.bodies._PATIENCE", 0.05)
    sent = []

    async def never():
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    asyncio.run(limited(_refuses, {"type": "http", "headers": [(b"content-length", b"9")]}, never, send, 100))
    assert sent[0]["status"] == 401


def test_the_limit_grows_with_the_longest_prompt(monkeypatch):
    monkeypatch.delenv("MEMOIR_FAST_MAX_BODY", raising=False)
    assert most_bytes(2048) == 4 << 20 and most_bytes(1 << 17) == 8 << 20
    monkeypatch.setenv("MEMOIR_FAST_MAX_BODY", "1000")
    assert most_bytes(2048) == 1000
    for wrong in ("", "0", "-1", "1 MB", "١"):
        monkeypatch.setenv("MEMOIR_FAST_MAX_BODY", wrong)
        with pytest.raises(ValueError, match="MEMOIR_FAST_MAX_BODY must be a number of bytes"):
            most_bytes(2048)
