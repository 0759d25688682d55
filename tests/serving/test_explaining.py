"""Which edit spoke: from the worker's decision to the answer's header, its body and the log. The application is a small one of ASGI's kind that
does what vLLM's routes do: it tells the front end its requests, a worker decides, it answers."""

from __future__ import annotations

import asyncio
import json
import os
from types import SimpleNamespace

import pytest

from memoir_fast.serving.serve import REQUEST_LOG
from memoir_fast.serving.vllm import explaining, shared
from memoir_fast.serving.vllm.answers import KEY, Answers, Decision, Slots
from memoir_fast.serving.vllm.choice import Choice
from memoir_fast.serving.vllm.explaining import Explainer
from memoir_fast.serving.vllm.request_log import RequestLog

READ = Decision("matched", 3, 3, 0.97, 0.5)
TOLD = {"outcome": "matched", "edit": 3, "nearest": 3, "score": 0.97, "threshold": 0.5}
JSON, STREAM = b"application/json", b"text/event-stream; charset=utf-8"
ASKS = ({}, [(b"x-memoir-explain", b"1")]), ({"memoir_explain": 1}, []), ({"memoir": "off", "memoir_explain": True}, [])


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv(shared.ENVIRONMENT, str(tmp_path))
    monkeypatch.delenv(REQUEST_LOG, raising=False)
    return tmp_path


class Route:
    """An application: engine requests with these names and decisions, then an answer in parts. A stream begins before its requests, with the parts
    `early`."""

    def __init__(self, prompts, parts, kind=JSON, extra=None, early=(), status=200):
        self.prompts, self.parts, self.kind, self.extra, self.early, self.status = (
            prompts,
            parts,
            kind,
            extra,
            early,
            status,
        )
        self.carried = []

    async def __call__(self, receive, send):
        await receive()
        if self.kind == JSON:
            await self.engines()
        length = str(sum(map(len, self.parts))).encode()
        headers = [(b"content-type", self.kind), *([(b"content-length", length)] if self.kind == JSON else [])]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        for part in self.early:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if self.kind != JSON:
            await self.engines()
        for part in self.parts[:-1]:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": self.parts[-1]})

    async def engines(self):
        await asyncio.gather(*(self.engine(*one) for one in self.prompts))

    async def engine(self, name, decision):
        request = SimpleNamespace(external_req_id=name, sampling_params=SimpleNamespace(extra_args=self.extra))
        explaining.note(request)
        extra = json.loads(json.dumps(request.sampling_params.extra_args))  # as it travels
        assert Choice.of(extra) == Choice.of(self.extra)
        self.carried.append(extra)
        if decision is not None:
            Answers().put(extra, decision)


def asked(route, headers=(), body=b"{}", explainer=None, path="/v1/chat/completions"):
    """The messages of the answer, each with how many were sent when the application sent it."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    async def run():
        with (explainer or Explainer()).request({"headers": list(headers), "method": "POST", "path": path}) as one:
            await route(one.receiving(receive), one.sending(send))

    asyncio.run(run())
    return sent


def said(sent):
    """The answer's header, and its body."""
    headers = dict(sent[0]["headers"])
    body = b"".join(message["body"] for message in sent[1:])
    if b"content-length" in headers and b"x-memoir" in headers:
        assert headers[b"content-length"] == str(len(body)).encode()
    return json.loads(headers[b"x-memoir"]) if b"x-memoir" in headers else None, body


@pytest.mark.parametrize(("extra", "headers"), ASKS)
def test_a_json_answer_says_it_in_its_header_and_in_a_field(place, extra, headers):
    answer = {"id": "chatcmpl-1", "text": "é", "choices": [{"memoir": 1}]}
    text = json.dumps(answer, ensure_ascii=False).encode()
    told, body = said(asked(Route([("chatcmpl-1", READ)], [text[:9], text[9:]], extra=extra), headers))
    assert told == [TOLD] and json.loads(body) == {"memoir": [TOLD], **answer}


def test_who_does_not_ask_gets_the_answer_as_it_is(place):
    for headers in ([], [(b"x-memoir-explain", b"0")]):
        route = Route([("chatcmpl-1", READ)], [b'{"a": 1}'], extra={"memoir_edit": 3})
        assert said(asked(route, headers, body=b'{"vllm_xargs": {"memoir_edit": 3}}')) == (None, b'{"a": 1}')
        assert route.carried == [{"memoir_edit": 3}]  # nothing was asked of the worker


@pytest.mark.parametrize(("extra", "headers"), ASKS)
def test_a_stream_says_it_in_its_header_and_stays_as_it_is(place, extra, headers):
    body = json.dumps({"vllm_xargs": extra}).encode()
    for early in (
        (),
        (b"data: created\n\n", b"data: in progress\n\n"),
    ):  # /v1/responses begins before it asks the engine
        route = Route([("resp_1", READ)], [b"data: 1\n\n", b"data: 2\n\n"], STREAM, extra, early)
        sent = asked(route, headers, body)
        assert said(sent) == ([TOLD], b"".join([*early, b"data: 1\n\ndata: 2\n\n"])) and len(sent) == 3 + len(early)


def test_a_stream_is_held_no_longer_than_it_must(place):
    """Until the first of its prompts is decided; and not at all if it only mentions the word."""
    states = []

    class Watched(Route):
        async def __call__(self, receive, send):
            async def counted(message):
                await send(message)
                states.append(len(sent))

            await super().__call__(receive, counted)

    sent = []

    async def run(route, body):
        sent.clear(), states.clear()

        async def receive():
            return {"type": "http.request", "body": body}

        async def send(message):
            sent.append(message)

        with Explainer().request({"headers": [], "method": "POST", "path": "/"}) as one:
            await route(one.receiving(receive), one.sending(send))

    prompts = [("cmpl-0", READ), ("cmpl-1", None)]
    parts = [b"1", b"2", b"3"]
    asyncio.run(run(Watched(prompts, parts, STREAM, {"memoir_explain": 1}), b"memoir_explain"))
    assert states == [0, 2, 3, 4] and said(sent)[0] == [TOLD, None]
    asyncio.run(run(Watched(prompts, parts, STREAM, early=[b"0"]), b"What is memoir_explain?"))
    assert states == [0, 0, 3, 4, 5] and said(sent) == (None, b"0123")
    asyncio.run(run(Watched(prompts, parts, STREAM), b"What is memoir?"))
    assert states == [1, 2, 3, 4]
    asyncio.run(run(Watched([("cmpl-0", None)], parts, STREAM, {"memoir_explain": 1}), b"memoir_explain"))
    assert states == [0, 0, 0, 4] and said(sent)[0] == [None]  # a worker that cannot say it: on another host


def test_a_word_in_two_parts_of_a_body_is_seen(place):
    parts = [b'{"vllm_xargs": {"memoir_ex', b'plain": 1}}']

    async def run():
        with Explainer().request({"headers": [], "method": "POST", "path": "/"}) as one:
            waiting = list(parts)

            async def receive():
                return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

            watched, sent = one.receiving(receive), []

            async def send(message):
                sent.append(message)

            await watched()
            await watched()
            await one.sending(send)({"type": "http.response.start", "status": 200, "headers": []})
            return sent

    assert asyncio.run(run()) == []  # held


@pytest.mark.parametrize("join", ["-", "_"])
def test_prompts_are_told_in_the_order_of_the_request(place, join):
    decisions = [Decision("matched", number, number, 0.9, 0.5) for number in range(20)]
    names = [f"cmpl-a-1{join}{number}" for number in range(20)]
    prompts = list(zip(names, decisions, strict=True))
    told, body = said(asked(Route(prompts[::-1], [b'{"a":1}'], extra={"memoir_explain": 1})))
    assert [one["edit"] for one in told] == list(range(16))  # a header must stay short
    assert [one["edit"] for one in json.loads(body)["memoir"]] == list(range(20))


@pytest.mark.parametrize("body", [b"{}", b"[1]", b""])
def test_what_is_no_json_object_has_the_header_alone(place, body):
    assert said(asked(Route([("a", READ)], [body], extra={"memoir_explain": 1}))) == ([TOLD], body)


def test_a_stream_whose_body_hides_the_word_stays_as_it_is(place):
    body = b'{"vllm_xargs": {"memoir\\u005fexplain": 1}}'
    sent = asked(Route([("a", READ)], [b"1", b"2"], STREAM, {"memoir_explain": 1}), body=body)
    assert said(sent) == (None, b"12") and len(sent) == 3


def test_a_request_that_never_reached_the_engine_has_nothing_to_say(place):
    headers = [(b"x-memoir-explain", b"1")]
    assert said(asked(Route([], [b'{"error": 1}'], status=400), headers)) == (None, b'{"error": 1}')


def test_only_this_process_gives_slots(place):
    forged = ["asked-1", 0, 1]
    route = Route([("a", READ)], [b'{"a":1}'], extra={KEY: forged, "memoir_explain": 1})
    assert said(asked(route))[0] == [TOLD] and route.carried[0][KEY] != forged
    route = Route([("a", READ)], [b'{"a":1}'], extra={KEY: forged})
    asked(route)
    assert route.carried == [{}]


def test_slots_are_used_again_and_never_mixed_up(place):
    slots, answers = Slots(), Answers()
    first = slots.take()
    assert slots.decision(first) is None
    answers.put({KEY: first}, READ)
    assert slots.decision(first) == READ
    slots.give_back(first)
    taken = [slots.take() for _ in range(1 << 16)]
    assert slots.take() is None and taken[-1][:2] == first[:2] and slots.decision(taken[-1]) is None
    answers.put({KEY: first}, READ)  # a worker that comes late
    assert slots.decision(taken[-1]) is None
    off = Decision("off")
    answers.put({KEY: taken[-1]}, off)
    assert slots.decision(taken[-1]) == off


def test_a_worker_writes_nowhere_else(place):
    (place / "edits-1.json").write_bytes(b"x" * 100)
    for slot in (["edits-1.json", 0, 1], ["../asked-1", 0, 1], ["asked-1", -1, 1], ["asked-1", 1 << 16, 1], ["asked-1", 0], "asked-1", ["asked-9/../edits-1.json", 0, 1], ["asked-9", 0, 1]):  # fmt: skip
        Answers().put({KEY: slot}, READ)
    assert [path.name for path in place.iterdir()] == ["edits-1.json"] and (place / "edits-1.json").read_bytes() == b"x" * 100  # fmt: skip


def test_offline_nobody_can_say_it(place):
    request = SimpleNamespace(external_req_id="0", sampling_params=SimpleNamespace(extra_args={"memoir_explain": 1}))
    with pytest.raises(ValueError, match=r"memoir_explain is answered over HTTP.*MemoirModel\.route"):
        explaining.note(request)
    for quiet in (
        SimpleNamespace(sampling_params=None),
        SimpleNamespace(sampling_params=SimpleNamespace(extra_args={"memoirs": 1})),
    ):
        explaining.note(quiet)  # of another model, perhaps


def test_a_line_for_each_request(place, monkeypatch):
    log = place / "requests.log"
    log.write_text("before\n")
    monkeypatch.setenv(REQUEST_LOG, str(log))
    explainer = Explainer()
    answer = said(asked(Route([("cmpl-b_0", READ), ("cmpl-b_1", None)], [b'{"a": 1}']), explainer=explainer))
    assert answer == (None, b'{"a": 1}')  # it is logged, and was not asked for
    asked(Route([], [b"{}"], status=400), explainer=explainer, path="/v1/x")
    asked(Route([], [b"{}"]), explainer=explainer)  # nothing of ours
    before, first, second = log.read_text().splitlines()
    first, second = json.loads(first), json.loads(second)
    assert before == "before" and first.pop("time").endswith("+00:00") and 0 <= first.pop("seconds") < 5
    assert first == {"method": "POST", "path": "/v1/chat/completions", "status": 200, "prompts": [
        {"request": "cmpl-b_0", **TOLD}, {"request": "cmpl-b_1", **dict.fromkeys(TOLD)}]}  # fmt: skip
    assert (second["status"], second["path"], second["prompts"]) == (400, "/v1/x", [])


def test_a_log_that_cannot_be_written(place, monkeypatch, caplog):
    monkeypatch.setenv(REQUEST_LOG, str(place / "missing" / "requests.log"))
    with pytest.raises(ValueError, match=r"MEMOIR_FAST_REQUEST_LOG: .*cannot be written \(No such file"):
        Explainer()
    if os.path.exists("/dev/full"):
        full = RequestLog("/dev/full")
        full.write({}), full.write({})
        assert caplog.text.count("requests are not logged to /dev/full") == 1
