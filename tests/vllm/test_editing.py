"""`memoir-fast serve --edit-port`: from a proposal to a rollback beside a running vLLM, which goes on answering. Needs vLLM (make test-vllm)."""

from __future__ import annotations

import contextlib
import datetime
import json
import shutil
import threading
import time
import urllib.error

from memoir_fast.store import Catalog
from tests.support.ports import free_port
from tests.vllm.support import KEY, counters, request, running, serve_command

KEYS = {"paul": ("propose", "paul-may-propose-here"), "anna": ("approve", "anna-may-approve-here")}
PROMPT, TARGET = "The chief executive of Norvane Robotics is", "Lena Ortiz"
REWORDED = "The person who leads Norvane Robotics as chief executive is"


class Asking:
    """Somebody who asks vLLM all the time, and somebody who looks how many edits it serves.

    Attributes:
        statuses: of the answers; live: when it first said that it serves one edit more.
    """

    def __init__(self, url: str, edits: int):
        self.url, self.edits, self.statuses, self.live, self.stopped = url, edits, [], None, False
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._ask, self._look)]
        for one in self._threads:
            one.start()

    def stop(self) -> None:
        self.stopped = True
        for one in self._threads:
            one.join(60)

    def _ask(self) -> None:
        while not self.stopped:
            self.statuses.append(_asked(self.url, "The capital of France is")[0])

    def _look(self) -> None:
        while not self.stopped and self.live is None:
            if counters(self.url)["edits"] > self.edits:
                self.live = datetime.datetime.now(datetime.timezone.utc)
            time.sleep(0.05)


def _asked(url, prompt):
    body = {"model": "served", "prompt": prompt, "max_tokens": 6, "temperature": 0}
    status, answer = request(url + "/v1/completions", body)
    return status, answer["choices"][0]["text"].strip() if status == 200 else answer


def test_a_correction_goes_live_while_vllm_serves(edited, tmp_path):
    store, port = tmp_path / "store", free_port()
    shutil.copytree(edited.store, store)
    (tmp_path / "keys.json").write_text(
        json.dumps({name: {"role": role, "key": key} for name, (role, key) in KEYS.items()})
    )
    command = serve_command(store, tmp_path)
    beside = ["--edit-port", str(port), "--edit-keys", str(tmp_path / "keys.json"), "--edit-page", "--edit-review"]
    command[command.index("--") : command.index("--")] = beside
    edit = f"http://127.0.0.1:{port}/memoir"

    def ask(name, path, body=None, method="POST"):
        status, answer = request(edit + path, body, KEYS[name][1], method)
        assert status in (200, 201, 202), answer
        return answer

    with running(command, tmp_path) as url:
        _wait_until_up(f"http://127.0.0.1:{port}/health", tmp_path)
        assert request(edit + "/edits", method="GET")[0] == 401  # vLLM's key is not one of the service's
        before = _asked(url, PROMPT)[1]
        assert not before.startswith(TARGET)
        asking = Asking(url, 20)
        waiting = ask("paul", "/edits", {"prompt": PROMPT, "target": TARGET, "tags": ["people"]})
        told = ask("paul", "/preview", {"proposal": waiting["id"], "questions": [PROMPT, "The capital of France is"]})
        assert [one["changed"] for one in told["questions"]] == [True, False] and told["questions"][0]["after"][
            "answer"
        ].strip().startswith(TARGET)
        assert counters(url)["edits"] == 20 and _asked(url, PROMPT)[1] == before
        made = ask("anna", f"/proposals/{waiting['id']}/approve")
        assert (made["status"], made["edit"], made["live"]) == ("made", 20, True), made
        assert _asked(url, PROMPT)[1].startswith(TARGET) and _asked(url, REWORDED)[1].startswith(TARGET)
        waiting = ask("paul", "/edits/20/disable?reason=a+test")
        assert waiting["status"] == "waiting" and _asked(url, PROMPT)[1].startswith(TARGET)
        assert ask("anna", f"/proposals/{waiting['id']}/approve")["live"] is True
        assert _asked(url, PROMPT)[1] == before and counters(url)["edits"] == 20
        shown = ask("paul", "/rollback", {"to": 20})
        assert [(one["edit"], one["becomes"]) for one in shown["changes"]] == [(20, "active")]
        waiting = ask("paul", "/rollback", {"to": 20, "confirm": shown["confirm"]})
        assert ask("anna", f"/proposals/{waiting['id']}/approve")["live"] is True
        assert _asked(url, PROMPT)[1].startswith(TARGET)
        asking.stop()
        assert set(asking.statuses) == {200} and len(asking.statuses) > 3  # none was lost
        row = Catalog(store).row(20)
        seconds = (asking.live - datetime.datetime.fromisoformat(row["created"])).total_seconds()
        print(f"live {seconds:.2f} s after it was stored; {len(asking.statuses)} requests meanwhile")
        assert (
            row["metadata"]["review"]["approved_by"] == "anna" and counters(url)["generation"] == 4
        )  # at the start, and three changes
        assert b"Your key" in request(edit, key=None, method="GET")[1].encode()
    _wait_until_down(f"http://127.0.0.1:{port}/health")


def _wait_until_up(url: str, folder) -> None:
    for _ in range(3000):
        with contextlib.suppress(OSError):
            if request(url, method="GET", key=KEY, timeout=5)[0] == 200:
                return
        time.sleep(0.2)
    raise AssertionError((folder / "server.log").read_text()[-6000:])


def _wait_until_down(url: str) -> None:
    """The service ends with vLLM."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            request(url, method="GET", timeout=5)
        except (urllib.error.URLError, OSError):
            return
        time.sleep(0.1)
    raise AssertionError("the editing service goes on without vLLM")
