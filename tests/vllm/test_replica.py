"""`memoir-fast serve --follow`: a vLLM that serves a copy of a store which is edited elsewhere. Needs vLLM (make test-vllm)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time

from memoir_fast.store import Store, StoreError
from tests.support.ports import free_port
from tests.vllm.support import counters, request, running, serve_command

KEYS = {"reader": ("read", "a-reader-that-only-follows"), "anna": ("approve", "anna-may-approve-here")}
PROMPT, TARGET = "The chief executive of Norvane Robotics is", "Lena Ortiz"


@contextlib.contextmanager
def editing(store, folder, port):
    """The editing service, in a process of its own, as it would run on another machine."""
    (folder / "keys.json").write_text(
        json.dumps({name: {"role": role, "key": key} for name, (role, key) in KEYS.items()})
    )
    command = [
        sys.executable,
        "-m",
        "memoir_fast.cli",
        "edit-server",
        "--store",
        str(store),
        "--port",
        str(port),
        "--keys",
        str(folder / "keys.json"),
    ]
    with (folder / "editor.log").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        _until(lambda: request(f"http://127.0.0.1:{port}/health", method="GET")[0] == 200, folder / "editor.log")
        yield
    finally:
        process.terminate()
        process.wait(30)


def _until(true, log, seconds=300):
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if true():
                return time.monotonic()
        assert time.monotonic() < until, log.read_text()[-6000:]
        time.sleep(0.05)


def _asked(url):
    status, answer = request(
        url + "/v1/completions", {"model": "served", "prompt": PROMPT, "max_tokens": 6, "temperature": 0}
    )
    assert status == 200, answer
    return answer["choices"][0]["text"].strip()


def test_a_replica_serves_what_is_edited_elsewhere(edited, tmp_path, monkeypatch):
    port, copy = free_port(), tmp_path / "copy"
    service = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MEMOIR_FAST_FOLLOW_KEY", KEYS["reader"][1])
    shutil.copytree(edited.store, tmp_path / "store")
    command = serve_command(copy, tmp_path)
    command[command.index("--") : command.index("--")] = ["--follow", service]
    log = tmp_path / "server.log"

    def ask(path, body=None, method="POST", name="anna"):
        return request(service + "/memoir" + path, body, KEYS[name][1], method)

    with editing(tmp_path / "store", tmp_path, port), running(command, tmp_path) as url:
        first = ask("/status", method="GET")[1]["seq"]
        assert counters(url)["edits"] == 20 and counters(url)["seq"] == first
        before = _asked(url)
        assert not before.startswith(TARGET)
        status, made = ask("/edits?wait=120", {"prompt": PROMPT, "target": TARGET})
        stored = time.monotonic()
        assert (status, made["edit"]) == (201, 20), made
        live = _until(lambda: counters(url)["seq"] == first + 1, log)
        print(f"served {live - stored:.2f} s after the service had answered")
        assert _asked(url).startswith(TARGET) and counters(url)["edits"] == 21
        assert ask("/edits/20/disable")[0] == 200
        _until(lambda: counters(url)["seq"] == first + 2, log)
        assert _asked(url) == before and counters(url)["edits"] == 20
        assert (
            ask("/edits", {"prompt": "a", "target": "b"}, name="reader")[0] == 403
        )  # the replica's key changes nothing
        assert request(url + "/memoir/refresh")[1]["seq"] == first + 2
    with running(
        command, tmp_path
    ) as url:  # the service is gone: the copy is served as it is, and followed again once it is back
        assert "is used as it is, up to record" in log.read_text() and _asked(url) == before
        with editing(tmp_path / "store", tmp_path, port):
            assert ask("/edits/20/enable")[0] == 200
            _until(lambda: counters(url)["seq"] == first + 3, log)
            assert _asked(url).startswith(TARGET)
        assert _asked(url).startswith(TARGET)
    _until(lambda: _can_be_written(copy), log, 30)  # the process that followed ends with vLLM
    with Store(copy) as kept:
        assert kept.state.seq == first + 3


def _can_be_written(store):
    with contextlib.suppress(StoreError):
        Store(store, writer=True).close()
        return True
    return False
