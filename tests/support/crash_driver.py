"""Kill a writing process at random points, again and again: `python -m tests.support.crash_driver FOLDER KILLS`

Run on its own with one thread: it forks processes that use torch. Prints what it saw as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch

from memoir_fast import MemoirModel
from memoir_fast.store import Store
from tests.support.models import tiny_memoir, tiny_model, word_tokenizer

KILLS_PER_STORE = 20


def work(folder: Path, model, tokenizer, acknowledged: int) -> None:
    """Edit without end; tell of each change once it counts as made."""
    edited = MemoirModel.open(folder, model, tokenizer)
    for number in itertools.count(edited.next_id):
        result = edited.edit(
            f"w{100 + number % 50} w{101 + number % 37} w{100 + number % 11}", f"w{150 + number % 20}", steps=2
        )
        os.write(acknowledged, f"edit {result.id}\n".encode())
        if number % 3 == 2:
            edited.delete(number - 1)
            os.write(acknowledged, f"deleted {number - 1}\n".encode())
        if number % 5 == 4:
            edited.store.compact()


def main(folder: Path, kills: int) -> None:
    torch.set_num_threads(1)
    rng = random.Random(0)
    model, tokenizer = tiny_model("llama"), word_tokenizer()
    seen = {"kills": 0, "acknowledged": 0, "cut_off": 0}
    path, expected = folder, {}
    while seen["kills"] < kills:
        if seen["kills"] % KILLS_PER_STORE == 0:
            shutil.rmtree(path, ignore_errors=True)
            path, expected = folder / f"store{seen['kills']}", {}
            fresh = tiny_memoir(write="preconditioned")
            fresh.create_store(path, conflict="keep")
            fresh.close()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            try:
                work(path, model, tokenizer, writing)
            finally:
                os._exit(1)  # only ever by an error
        os.close(writing)
        with os.fdopen(reading) as lines:
            # However slow the machine is, some changes are made; the moment within the next one is left to chance.
            begun = [lines.readline() for _ in range(rng.randrange(4))]
            time.sleep(rng.uniform(0.0, 0.1))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status), "the writing process failed before it was killed"
            told = [line.split() for line in "".join([*begun, lines.read()]).splitlines()]
        for what, edit in told:
            expected[int(edit)] = "active" if what == "edit" else "deleted"
        with Store(path, writer=True) as store:
            for edit, status in expected.items():
                found = store.state.statuses.get(edit)
                # A deletion may have reached the disk before it was told of.
                assert found == status or (status == "active" and found == "deleted"), (edit, status, found)
            report = store.verify()
            assert report["problems"] == [], report
            expected = {**expected, **store.state.statuses}
            seen["cut_off"] += any("cut off" in line for line in report["repaired"])
        seen["kills"] += 1
        seen["acknowledged"] += len(told)
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
