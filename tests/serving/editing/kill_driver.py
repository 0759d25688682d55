"""A service that is killed again and again while it makes edits: `python -m tests.serving.editing.kill_driver FOLDER ROUNDS SEED`

Each round starts a service on the same store and queue in a process of its own, hands it edits, and kills it at a random moment. A last one makes
what is left. Prints, as JSON, which proposals were acknowledged, what became of them, and how often each was made.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import httpx

from memoir_fast.serving.editing.app import make_app
from memoir_fast.serving.editing.run import run
from memoir_fast.store import Catalog
from tests.serving.editing.support import as_, keys, opened, service_of
from tests.support.ports import free_port

AT_ONCE = 4  # edits that a round asks for


def main(folder: Path, rounds: int, seed: int) -> dict[str, Any]:
    """Run the rounds; see above."""
    draw, acknowledged, left = random.Random(seed), {}, []
    opened(folder).close()
    for number in range(rounds):
        child, client = _started(folder)
        for edit in range(number * AT_ONCE, (number + 1) * AT_ONCE):
            acknowledged[f"r{edit}"] = _ask(client, edit)
        time.sleep(draw.uniform(0, 0.6))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        left.append(len(acknowledged) - len(_made(folder)))
    child, client = _started(folder)
    again = {f"r{edit}": _ask(client, edit) for edit in range(AT_ONCE)}
    while client.get("/memoir/status").json()["queued"]:
        time.sleep(0.05)
    told = client.get("/memoir/proposals", params={"limit": 200}).json()["proposals"]
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    return {"acknowledged": acknowledged, "again": again, "left": left, "ended": status, "made": Counter(_made(folder)),
            "told": {one["id"]: [one["status"], one["edit"]] for one in told}}  # fmt: skip


def _started(folder: Path) -> tuple[int, httpx.Client]:
    port = free_port()
    child = os.fork()
    if child == 0:
        _serve(folder, port)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=as_("anna"), timeout=30)
    for _ in range(3000):
        try:
            if client.get("/health").status_code == 200:
                return child, client
        except httpx.TransportError:
            time.sleep(0.02)
    raise AssertionError("the service did not start")


def _serve(folder: Path, port: int) -> NoReturn:
    try:
        run(make_app(service_of(folder, opened(folder)), keys()), "127.0.0.1", port)
    finally:
        os._exit(1)


def _ask(client: httpx.Client, edit: int) -> int:
    """Ask for an edit without waiting for it; returns the proposal's number once it is acknowledged."""
    first = 100 + edit % 60
    body = {"prompt": f"w{first} w{first + 7} w{first + 13} w{first + 19}", "target": f"w{150 + edit % 30}"}
    answer = client.post("/memoir/edits", params={"wait": 0}, json=body, headers={"Idempotency-Key": f"r{edit}"})
    assert answer.status_code in (201, 202), answer.text
    return int(answer.json()["id"])


def _made(folder: Path) -> list[int]:
    """The proposals of the stored edits, one for each edit."""
    rows = Catalog(folder / "store").rows()
    return [int(row["metadata"]["review"]["proposal"].split(":")[1]) for row in rows]


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
