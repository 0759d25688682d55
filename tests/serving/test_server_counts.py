"""What several processes of a server count, and how it is told."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys

import pytest

from memoir_fast.serving.vllm import shared
from memoir_fast.serving.vllm.counters import metrics


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv(shared.ENVIRONMENT, str(tmp_path))
    return tmp_path


def _front_end(number):
    refusals = shared.Refusals()
    for _ in range(number):
        refusals.add()
    assert shared.edits("a store") == {3}
    shared.set_edits("a store", {5}, first=True)  # what a front end does at its start changes nothing
    assert shared.edits("a store") == {3}


def _scrape(accept=b"text/plain", status=200, content_type=b"text/plain; version=0.0.4"):
    sent = []

    async def application(scope, receive, send):
        assert not any(name == b"accept-encoding" for name, _ in scope["headers"])
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type), (b"content-length", b"9")]})  # fmt: skip
        await send({"type": "http.response.body", "body": b"vllm:x", "more_body": True})
        await send({"type": "http.response.body", "body": b" 1\n"})

    async def send(message):
        sent.append(message)

    scope = {"headers": [(b"accept", accept), (b"accept-encoding", b"gzip")]}
    asyncio.run(metrics(application, scope, None, send))
    body = sent[1]["body"].decode()
    assert dict(sent[0]["headers"])[b"content-length"] == str(len(body)).encode() and sent[0]["status"] == status
    return body.splitlines()


def test_the_counts_of_all_processes_are_added_up(place):
    shared.set_edits("a store", {3})
    worker = shared.Tally("worker")
    worker.put({"matched": 7, "unmatched": 2, "refused": 1, "edits": 4, "generation": 2, "seq": 9, "another": 1})
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_front_end, args=(number,)) for number in (2, 3)]
    for other in others:
        other.start()
    for other in others:
        other.join()
        assert other.exitcode == 0
    shared.Refusals().add()
    assert shared.totals() == {
        "matched": 7,
        "unmatched": 2,
        "off": 0,
        "refused": 7,
        "edits": 4,
        "generation": 2,
        "seq": 9,
    }
    worker.put({"edits": 3, "generation": 3, "seq": 8})  # a store that was put back has fewer records
    lines = _scrape()
    assert 'memoir_fast_requests_total{outcome="refused"} 7.0' in lines and "memoir_fast_edits 3.0" in lines
    assert (
        "# TYPE memoir_fast_requests_total counter" in lines
        and "memoir_fast_generation 3.0" in lines
        and "memoir_fast_seq 8.0" in lines
    )
    assert lines[-1] == "vllm:x 1"
    worker.put({"matched": 6})  # what is told is what was counted: nothing is added up, so nothing can turn negative
    assert 'memoir_fast_requests_total{outcome="matched"} 6.0' in _scrape()


def test_openmetrics_names_the_family_and_an_error_stays_as_it_is(place):
    lines = _scrape(content_type=b"application/openmetrics-text; version=1.0.0")
    assert "# TYPE memoir_fast_requests counter" in lines and 'memoir_fast_requests_total{outcome="off"} 0.0' in lines
    assert _scrape(status=404) == ["vllm:x 1"]


def test_which_edits_there_are_is_read_anew_when_another_process_says_so(place):
    assert shared.edits("a store") is None
    shared.set_edits("a store", {1, 2})
    assert shared.edits("a store") == {1, 2} and shared.edits("another store") is None
    program = "from memoir_fast.serving.vllm import shared; shared.set_edits('a store', {9})"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert shared.edits("a store") == {9}


def test_the_folder_is_of_one_server_and_goes_with_it(place):
    program = (
        "import os; from memoir_fast.serving.vllm import shared; shared.begin(); shared.begin(); shared.Tally('front')\n"
        "print(os.environ[shared.ENVIRONMENT], len(list(shared.folder().iterdir())))"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert told[1] == "1" and told[0] != str(place)  # not the folder that it was told of: that is another server's
    assert not (place.parent / told[0]).exists()


def test_without_a_server_nothing_is_counted(monkeypatch):
    monkeypatch.delenv(shared.ENVIRONMENT, raising=False)
    shared.Tally("worker").put({"matched": 1})
    assert set(shared.totals().values()) == {0} and shared.edits("nowhere") is None
    with shared.alone() as mine:
        assert mine
