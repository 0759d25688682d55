"""A running server says which edit spoke: in its answers, its log, its counters."""

from __future__ import annotations

import concurrent.futures
import json
import subprocess
import sys

import pytest

from memoir_fast.reading.word_threshold import LEAST
from tests.vllm.support import KEY, exchanged, request
from tests.vllm.test_http import _chat, _routes

ASK = {"vllm_xargs": {"memoir_explain": True}}


def _told(edited, prompt, answer):
    """Whether an answer's header says what our Hugging Face path decides for a plain prompt."""
    route = edited.model.route(prompt)
    (one,) = json.loads(answer[2]["x-memoir"])
    assert one["edit"] == route["edit"] and one["outcome"] == ("unmatched" if route["edit"] is None else "matched")
    assert one["threshold"] == pytest.approx(route["threshold"], abs=1e-4)
    assert one["score"] == pytest.approx(route["score"], abs=1e-3)
    return one


def test_completions_say_what_the_hugging_face_path_decides(edited, server):
    for prompt in (edited.prompts[0], edited.prompts[1], edited.prompts[-1]):
        body = {"model": "served", "prompt": prompt, "max_tokens": 2, "temperature": 0}
        plain = exchanged(server + "/v1/completions", body)
        assert plain[0] == 200 and "x-memoir" not in plain[2] and "memoir" not in json.loads(plain[1])
        asked = exchanged(server + "/v1/completions", {**body, **ASK})
        by_header = exchanged(server + "/v1/completions", body, X_Memoir_Explain="1")
        for answer in (asked, by_header):
            assert json.loads(answer[1])["memoir"] == [_told(edited, prompt, answer)]
            assert json.loads(answer[1])["choices"] == json.loads(plain[1])["choices"]
        stream = exchanged(server + "/v1/completions", {**body, **ASK, "stream": True})
        _told(edited, prompt, stream)
        assert stream[1].startswith("data: ") and "memoir" not in stream[1] and stream[1].rstrip().endswith("[DONE]")


@pytest.mark.parametrize("route", list(_routes("", {})))
def test_every_route_says_it_also_where_it_streams(edited, server, route):
    path, body, text = _routes(edited.prompts[0], ASK)[route]
    status, answer, headers = exchanged(server + path, body)
    assert status == 200 and text(json.loads(answer)), answer
    (one,) = json.loads(headers["x-memoir"])
    assert json.loads(answer)["memoir"] == [one] and (one["outcome"], one["edit"], one["nearest"]) == ("matched", 0, 0)
    assert LEAST <= one["threshold"] <= one["score"] <= 1
    if route != "batch":
        status, answer, headers = exchanged(server + path, {**body, "stream": True})
        assert status == 200 and json.loads(headers["x-memoir"]) == [one] and "data: " in answer, answer


def test_other_outcomes_and_several_prompts(edited, server):
    url, body = server + "/v1/completions", {"model": "served", "max_tokens": 1, "temperature": 0}
    nothing = {"nearest": None, "score": None, "threshold": None}

    def told(prompt, **extra):
        status, answer, headers = exchanged(
            url, {**body, "prompt": prompt, "vllm_xargs": {"memoir_explain": 1, **extra}}
        )
        assert status == 200, answer
        found = json.loads(answer)["memoir"]
        assert json.loads(headers["x-memoir"]) == found[:16]
        return found

    assert told(edited.prompts[0], memoir="off") == [{"outcome": "off", "edit": None, **nothing}]
    assert told(edited.prompts[0], memoir_edit=3) == [{"outcome": "matched", "edit": 3, **nothing}]
    assert told(edited.prompts[0], memoir_tags=["odd"])[0]["edit"] is None
    assert [one["edit"] for one in told(edited.prompts)] == edited.routes
    status, answer, headers = exchanged(
        url, {**body, "prompt": edited.prompts[0], "n": 2, "temperature": 1, "seed": 1, **ASK}
    )
    assert status == 200 and [one["edit"] for one in json.loads(headers["x-memoir"])] == [0]
    for wrong in ({"memoir_explain": 2}, {"memoir_explain": "yes"}):
        status, answer, headers = exchanged(url, {**body, "prompt": "a", "vllm_xargs": wrong})
        assert status == 400 and "memoir_explain must be 0 or 1" in answer and "x-memoir" not in headers


def test_requests_at_the_same_time_are_told_their_own(edited, server):
    def ask(number):
        body = {
            "model": "served",
            "prompt": edited.prompts[number],
            "max_tokens": 2,
            "temperature": 0,
            "stream": number % 2 == 0,
            **ASK,
        }
        return [one["edit"] for one in json.loads(exchanged(server + "/v1/completions", body)[2]["x-memoir"])]

    numbers = [*range(len(edited.prompts))] * 2
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, numbers)) == [[edited.routes[number]] for number in numbers]


def test_a_line_for_each_request_without_its_text(edited, server, request_log):
    request(server + "/v1/chat/completions", _chat(edited.prompts[0]))
    request(server + "/v1/completions", {"model": "served", "prompt": edited.prompts[:2], "max_tokens": 1})
    request(server + "/v1/chat/completions", _chat(edited.prompts[0], vllm_xargs={"memoire": 1}))
    request(server + "/v1/chat/completions", _chat(edited.prompts[0]), key="wrong")
    request(server + "/health", key=None, method="GET")
    lines = request_log(4)
    assert [(line["path"].rpartition("/")[2], line["status"], [one["edit"] for one in line["prompts"]]) for line in lines] == [
        ("completions", 200, [0]), ("completions", 200, [0, 1]), ("completions", 400, []), ("completions", 401, [])]  # fmt: skip
    assert edited.prompts[0] not in json.dumps(lines) and KEY not in json.dumps(lines)


def test_each_edit_is_counted_and_stats_lists_them(edited, server):
    def stats(*more):
        command = [sys.executable, "-m", "memoir_fast.cli", "stats", "--url", server, "--json", "-", *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    before = {row["edit"]: row["reads"] for row in stats()["edits"]}
    asked = [edited.prompts[5]] * 3 + [edited.prompts[6], edited.prompts[-1]]
    request(server + "/v1/completions", {"model": "served", "prompt": asked, "max_tokens": 1})
    found = stats("--store", str(edited.store))
    after = {row["edit"]: row["reads"] for row in found["edits"]}
    assert {edit: after[edit] - before.get(edit, 0) for edit in (5, 6)} == {5: 3, 6: 1}
    assert next(row["prompt"] for row in found["edits"] if row["edit"] == 5) == edited.prompts[5]
    assert {row["edit"] for row in found["never"]} == set(range(20)) - {edit for edit, reads in after.items() if reads}
    text = request(server + "/metrics", key=None, method="GET")[1]
    assert f'memoir_fast_edit_reads_total{{edit="5"}} {float(after[5])}' in text
    assert (
        "# TYPE memoir_fast_edit_score histogram" in text
        and 'memoir_fast_edit_score_bucket{edit="5",le="+Inf"}' in text
    )
