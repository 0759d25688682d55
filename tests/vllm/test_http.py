"""A running `memoir-fast serve` over HTTP: every route that takes a chat, what is refused and how, refreshing, counters. One server for all."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from memoir_fast.store import Store
from memoir_fast.store.manifest import Manifest
from tests.vllm.support import KEY, counters, request

SYSTEM = "Answer in few words."
OWN = "{{ 'Be brief. ' }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ '\\n' }}{% endfor %}[assistant]"


def _chat(prompt, **fields):
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]
    return {"model": "served", "messages": messages, "max_tokens": 8, "temperature": 0, **fields}


def _matched(server):
    found = counters(server)
    return found["matched"], found["unmatched"], found["off"]


def test_the_server_answers_and_refuses_over_http(edited, server):
    """Asked with the openai client: completions, a chat's last message, refusals, the example, refreshing, counters."""
    import openai

    client = openai.OpenAI(base_url=server + "/v1", api_key=KEY, max_retries=0)
    prompt = edited.prompts[0]

    def complete(**extra):
        found = client.completions.create(
            model="served", prompt=prompt, max_tokens=8, temperature=0, extra_body=extra or None
        )
        return found.choices[0].text.strip()

    before = counters(server)
    assert complete().startswith(edited.targets[0])
    assert not complete(vllm_xargs={"memoir": "off"}).startswith(edited.targets[0])
    for extra, named in (({"memoire": 1}, "memoire is unknown"), ({"memoir_edit": 99}, "not stored")):
        with pytest.raises(openai.BadRequestError, match=named):
            complete(vllm_xargs=extra)
    assert complete().startswith(edited.targets[0])  # nothing was harmed
    after = counters(server)
    assert {name: after[name] - before[name] for name in ("matched", "off", "refused")} == {"matched": 2, "off": 1, "refused": 2}  # fmt: skip
    example = Path(__file__).parents[2] / "examples" / "vllm_client.py"
    environment = {**os.environ, "MEMOIR_FAST_SERVER": server + "/v1", "OPENAI_API_KEY": KEY}
    shown = subprocess.run([sys.executable, str(example)], env=environment, capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0 and len(shown.stdout.splitlines()) >= 4, shown.stderr
    assert counters(server)["off"] == after["off"] + 1
    with Store(edited.store, writer=True) as store:
        store.delete(0)
    try:
        assert request(server + "/memoir/refresh")[1]["edits"] == 19
        assert not complete().startswith(edited.targets[0])
        with pytest.raises(openai.BadRequestError, match="not stored"):
            complete(vllm_xargs={"memoir_edit": 0})
    finally:
        with Store(edited.store, writer=True) as store:
            store.restore(0)
    assert request(server + "/memoir/refresh")[1]["edits"] == 20 == counters(server)["edits"]


def _routes(prompt, extra):
    """The same chat as each route takes it: path, body, and where the answer stands."""
    chat, system = _chat(prompt, **extra), {"role": "system", "content": SYSTEM}
    user = {"role": "user", "content": prompt}
    few = {"model": "served", "temperature": 0, **extra}
    return {
        "chat": ("/v1/chat/completions", chat, lambda a: a["choices"][0]["message"]["content"]),
        "batch": ("/v1/chat/completions/batch", {**chat, "messages": [chat["messages"]]}, lambda a: a["choices"][0]["message"]["content"]),
        "responses": ("/v1/responses", {**few, "instructions": SYSTEM, "input": prompt, "max_output_tokens": 8},
                      lambda a: a["output"][-1]["content"][0]["text"]),
        "responses, items": ("/v1/responses", {**few, "input": [system, user], "max_output_tokens": 8}, lambda a: a["output"][-1]["content"][0]["text"]),
        "messages": ("/v1/messages", {**few, "system": SYSTEM, "messages": [user], "max_tokens": 8}, lambda a: a["content"][0]["text"]),
        "invocations": ("/invocations", chat, lambda a: a["choices"][0]["message"]["content"]),
    }  # fmt: skip


@pytest.mark.parametrize("route", list(_routes("", {})))
def test_a_chat_reads_the_same_edit_through_every_route(edited, server, route):
    wanted = request(server + "/v1/chat/completions", _chat(edited.prompts[0]))[1]["choices"][0]["message"]["content"]
    matched, unmatched, off = _matched(server)
    for extra, added in ({}, (1, 0, 0)), ({"vllm_xargs": {"memoir": "off"}}, (0, 0, 1)), ({"vllm_xargs": {"memoir_tags": ["odd"]}}, (0, 1, 0)):  # fmt: skip
        path, body, text = _routes(edited.prompts[0], extra)[route]
        status, answer = request(server + path, body)
        assert status == 200, answer
        assert (text(answer) == wanted) == (not extra)
        matched, unmatched, off = matched + added[0], unmatched + added[1], off + added[2]
        assert _matched(server) == (matched, unmatched, off)


def test_other_templates_tools_and_begun_answers_are_seen(edited, server):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    shapes = [
        _chat(edited.prompts[0], chat_template=OWN),
        _chat(edited.prompts[0], tools=[tool], tool_choice="none"),
        _chat(edited.prompts[0], stream=True),
    ]
    begun = _chat(edited.prompts[0], add_generation_prompt=False, continue_final_message=True)
    begun["messages"].append({"role": "assistant", "content": "It is"})
    for shape in [*shapes, begun]:
        before = _matched(server)
        status, answer = request(server + "/v1/chat/completions", shape)
        assert status == 200, answer
        assert _matched(server) == (before[0] + 1, *before[1:])
    before = counters(server)["refused"]
    hidden = _chat(edited.prompts[0], chat_template="{% for m in messages %}{{ m['role'] }}{% endfor %}")
    status, answer = request(server + "/v1/chat/completions", hidden)
    assert status == 400 and "memoir_span" in answer["error"]["message"], answer
    assert counters(server)["refused"] == before + 1
    assert request(server + "/v1/chat/completions", {**hidden, "vllm_xargs": {"memoir": "off"}})[0] == 200


@contextlib.contextmanager
def _longest_silence(server):
    """A list that gets the longest time for which the server's event loop answered nothing."""
    gaps, ended = [], threading.Event()

    def beat():
        last = time.monotonic()
        while not ended.is_set():
            request(server + "/health", key=None, method="GET")
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    thread = threading.Thread(target=beat)
    thread.start()
    longest: list[float] = []
    try:
        yield longest
    finally:
        ended.set()
        thread.join()
        longest.append(max(gaps))


def test_bodies_are_read_behind_the_key_up_to_a_limit_and_never_hold_the_server(edited, server):
    large = json.dumps(_chat("word " * 2_400_000)).encode()
    before = counters(server)["refused"]
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions"):
        with _longest_silence(server) as silence:
            began = time.monotonic()
            assert request(server + path, large, key=None)[0] == 401
            took = time.monotonic() - began
        assert took < 5 and silence[0] < 5  # 23 seconds before; the machine of a test run may be slow
    for path in ("/v1/chat/completions", "/invocations"):
        status, answer = request(server + path, large)
        assert status == 413 and "longer than 4194304 bytes" in answer["error"]["message"]
    for path, field in (("/v1/chat/completions", "messages"), ("/invocations", "messages"), ("/v1/messages", "messages"), ("/v1/responses", "input")):  # fmt: skip
        status, answer = request(server + path, {"model": "served", field: [{}] * 100_000})
        assert status == 413 and "objects and lists" in answer["error"]["message"]
    assert counters(server)["refused"] == before + 6
    words = _chat("word " * 800_000)  # within the limit, and far longer than the model's context
    with _longest_silence(server) as silence:
        status, answer = request(server + "/v1/chat/completions", words)
    assert status == 400 and "maximum context length" in answer["error"]["message"], answer
    assert silence[0] < 5
    full = _chat(edited.prompts[0], max_tokens=1)
    full["messages"][0]["content"] = "word " * 440
    with _longest_silence(server) as silence:
        assert request(server + "/v1/chat/completions", full)[0] == 200
    assert silence[0] < 5


@contextlib.contextmanager
def _instead(store, change):
    """Another store lies in the place of the served one: a copy whose model is said to be another one."""
    kept = store.with_name("kept")
    store.rename(kept)
    try:
        shutil.copytree(kept, store)
        manifest = Manifest.load(store)
        dataclasses.replace(manifest, fingerprint={**manifest.fingerprint, **change}).save(store)
        yield
    finally:
        shutil.rmtree(store)
        kept.rename(store)


def test_a_refresh_needs_the_key_and_a_store_of_the_served_model(edited, server):
    before = counters(server)
    for key in (None, "wrong"):
        assert request(server + "/memoir/refresh", key=key)[0] == 401
    target = json.loads((edited.export / "config.json").read_text())["memoir"]["target"]
    other = target.replace(".layers.", ".layers.1")
    for change, named in (({"weight": "0" * 32}, "weight"), ({"target": other}, "target"), ({"in_features": 64}, "in_features")):  # fmt: skip
        with _instead(edited.store, change):
            status, answer = request(server + "/memoir/refresh")
        assert status == 409 and named in answer["error"]["message"] and "Nothing was changed" in answer["error"]["message"], answer  # fmt: skip
    assert {name: counters(server)[name] for name in ("edits", "generation")} == {name: before[name] for name in ("edits", "generation")}  # fmt: skip
    answer = request(server + "/v1/completions", {"model": "served", "prompt": edited.prompts[0], "max_tokens": 8, "temperature": 0})[1]  # fmt: skip
    assert answer["choices"][0]["text"].strip().startswith(edited.targets[0])


def test_refreshes_and_scrapes_at_the_same_time(server):
    before = counters(server)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        refreshed = [pool.submit(request, server + "/memoir/refresh") for _ in range(12)]
        scraped = [pool.submit(counters, server) for _ in range(24)]
    assert all(status == 200 and found["edits"] == 20 for status, found in (one.result() for one in refreshed))
    assert all(one.result()["edits"] == 20 for one in scraped)
    after = counters(server)
    assert 1 <= after["generation"] - before["generation"] < 12  # calls at the same time share one
    assert all(after[name] == before[name] for name in ("matched", "unmatched", "off", "refused"))
