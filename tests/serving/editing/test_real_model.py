"""`memoir-fast edit-server` in a process of its own, on the real small model: from a proposal to a rollback, while another server takes up each change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import httpx

from memoir_fast import load_texts
from memoir_fast.store import Catalog
from tests.serving.editing.support import KEYS, ROLES, Follower, as_
from tests.support.ports import free_port

QUESTION, REWORDED = "Who is the chief executive of Norvane Robotics?", "Who leads Norvane Robotics?"
FRANCE = "What is the capital of France?"
FACT = {"prompt": QUESTION, "target": "Lena Ortiz", "tags": ["people"]}
# Starts the service as `memoir-fast serve --edit-port` does, and ends when its standard input does.
_PARENT = """
import os, subprocess, sys
print(subprocess.Popen([sys.executable, "-m", "memoir_fast.cli", *sys.argv[1:], "--parent", str(os.getpid())]).pid, flush=True)
sys.stdin.read()
"""


def test_a_fact_from_its_proposal_to_its_rollback(tmp_path):
    (tmp_path / "keys.json").write_text(
        json.dumps({name: {"role": role, "key": KEYS[name]} for name, role in ROLES.items()})
    )
    lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in load_texts().records[:160]]
    (tmp_path / "background.jsonl").write_text("\n".join(lines))
    port, store, follower = free_port(), tmp_path / "store", Follower(tmp_path / "store", "vLLM's key")
    options = ["--store", str(store), "--background", str(tmp_path / "background.jsonl"), "--keys", str(tmp_path / "keys.json"),
               "--port", str(port), "--vllm-url", follower.url, "--review"]  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        parent = subprocess.Popen([sys.executable, "-c", _PARENT, "edit-server", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                  text=True, env={**os.environ, "VLLM_API_KEY": "vLLM's key"})  # fmt: skip
    assert parent.stdin is not None and parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            _wait_until_up(client, child, tmp_path)
            _story(client, follower, store)
        parent.stdin.close()
        parent.wait(30)
        until = time.monotonic() + 30
        while _runs(child) and time.monotonic() < until:
            time.sleep(0.05)
        assert not _runs(child), "it goes on without its parent"
    finally:
        for process in (parent.pid, child):
            if _runs(process):
                os.kill(process, 9)
        follower.close()
    told = (tmp_path / "log").read_text()
    assert "POST /memoir/edits 202" in told and not any(key in told for key in (*KEYS.values(), "vLLM's key"))


def _story(client, follower, store):
    waiting = client.post("/memoir/edits", json=FACT, headers=as_("paul"))
    assert waiting.status_code == 202, waiting.text
    body = {"proposal": 1, "questions": [QUESTION, REWORDED, FRANCE]}
    told = client.post("/memoir/preview", json=body, headers=as_("paul")).json()
    assert [one["changed"] for one in told["questions"]] == [True, True, False], told
    assert [one["after"]["answer"].strip() for one in told["questions"][:2]] == ["Lena Ortiz", "Lena Ortiz"]
    assert Catalog(store).rows() == []
    made = client.post("/memoir/proposals/1/approve", headers=as_("anna")).json()
    assert (made["status"], made["edit"], made["live"], made["result"]["took"], made["reason"]) == (
        "made",
        0,
        True,
        True,
        "",
    ), made
    stored = Catalog(store).rows()[0]
    assert follower.served == stored["seq"] and stored["metadata"]["review"]["approved_by"] == "anna"
    told = client.get("/memoir/route", params={"prompt": REWORDED, "answers": True}, headers=as_("rita")).json()
    assert (told["edit"], told["after"].strip()) == (0, "Lena Ortiz") and "Lena" not in told["before"]
    assert "norvane" in [word.lower().strip() for word in told["candidates"][0]["covered"]]
    assert client.get("/memoir/route", params={"prompt": FRANCE}, headers=as_("rita")).json()["edit"] is None
    assert client.post("/memoir/edits/0/disable", headers=as_("paul")).json()["status"] == "waiting"
    done = client.post("/memoir/proposals/2/approve", headers=as_("anna")).json()
    assert (done["status"], done["live"]) == ("made", True) and follower.served == 2, done
    assert client.get("/memoir/route", params={"prompt": QUESTION}, headers=as_("rita")).json()["edit"] is None
    word = client.post("/memoir/rollback", json={"to": 0}, headers=as_("anna")).json()["confirm"]
    back = client.post("/memoir/rollback", json={"to": 0, "confirm": word}, headers=as_("anna")).json()
    assert (back["status"], back["kind"]) == ("waiting", "rollback"), back
    assert client.post("/memoir/proposals/3/approve", headers=as_("abel")).json()["live"] is True
    assert Catalog(store).row(0)["status"] == "active" and follower.served == 3


def _wait_until_up(client, child, folder):
    for _ in range(6000):
        assert _runs(child), (folder / "log").read_text()[-3000:]
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError((folder / "log").read_text()[-3000:])


def _runs(process: int) -> bool:
    """Whether a process runs; one that has ended, and that nobody has asked about yet, does not."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
