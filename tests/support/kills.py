"""Kill a process in the middle of a change, at every system call or at any moment, and look what is left: `python -m tests.support.kills KILLS`

What a child has acknowledged must be there after its end, and nothing half done: each scenario is run once to its end, which tells what a store
holds after each step, and a killed one must hold what it held after the last acknowledged step, or after the one that was under way.
Run it on its own with one thread: it forks processes that use torch.
"""

from __future__ import annotations

import datetime
import errno
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from memoir_fast.journal import journal
from tests.support.kill_scenarios import SCENARIOS, Scenario, Tell

CALLS = ("write", "fsync", "replace", "ftruncate", "unlink", "mkdir", "rmdir", "rename", "open", "close", "lseek")
WAYS = ("before", "within", "after", "timer")  # a call is cut short "within" where it writes


class Counted:
    """The system calls of this process, one of which does not come to its end.

    Args:
        at: which one, from 1 on; way: see `WAYS`, or "full": from that one on the disk is full for a while.
    """

    def __init__(self, at: int, way: str):
        self.at, self.way, self.count = at, way, 0
        self.real = {name: getattr(os, name) for name in CALLS}
        for name in CALLS:
            setattr(os, name, lambda *a, _name=name, **k: self._call(_name, *a, **k))

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        if self.way == "full":
            if name in ("write", "fsync") and self.at <= self.count < self.at + 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.real[name](*args, **kwargs)
        if self.count == self.at and self.way != "timer":
            if self.way == "within" and name == "write":
                self.real[name](args[0], bytes(args[1])[: len(args[1]) // 2])
            elif self.way == "after":
                self.real[name](*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)
        return self.real[name](*args, **kwargs)


class WrongClock(datetime.datetime):
    """A clock that jumps to and fro by years."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return datetime.datetime(random.randrange(1971, 9999), 1, 1, tzinfo=tz)


def child(scenario: Scenario, folder: Path, at: int, way: str, moment: float, tell: Tell) -> int:
    """Run a scenario; returns how many system calls it took, if it comes to its end."""
    random.seed(at)
    if scenario.wrong_clock:
        journal.datetime = WrongClock
    counted = Counted(at, "full" if scenario.full_disk and way != "timer" else way)
    if way == "timer" or scenario.full_disk:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process where it stands, as SIGKILL does
        signal.setitimer(signal.ITIMER_REAL, moment)
    scenario.act(folder, tell)
    return counted.count


def killed(scenario: Scenario, folder: Path, at: int, way: str, moment: float) -> tuple[list[Any], bool]:
    """What a child acknowledged before it ended, and whether it was killed."""
    reading, writing = os.pipe()
    write = os.write  # the child's own is counted
    process = os.fork()
    if process == 0:
        os.close(reading)
        try:
            count = child(
                scenario, folder, at, way, moment, lambda value: write(writing, json.dumps(value).encode() + b"\n")
            )
            write(writing, json.dumps({"calls": count}).encode() + b"\n")
            os._exit(0)
        except BaseException as error:
            write(writing, json.dumps({"error": repr(error)}).encode() + b"\n")
        finally:
            os._exit(1)
    os.close(writing)
    if scenario.beside is not None:
        scenario.beside(folder, process)
    with os.fdopen(reading) as lines:
        told = [json.loads(line) for line in lines.read().splitlines()]
    _, status = os.waitpid(process, 0)
    assert not any("error" in one for one in told if isinstance(one, dict)), (scenario.name, at, way, told[-1])
    return told, os.WIFSIGNALED(status)


def run(
    kills: int, seed: int = 0, names: tuple[str, ...] = tuple(SCENARIOS), tell: Callable[[str], None] = print
) -> dict[str, Any]:
    """Kill so many processes, each scenario in turn; returns what was seen. Raises AssertionError where something was lost."""
    torch.set_num_threads(1)
    rng, seen = random.Random(seed), Counter[str]()
    memory = Path("/dev/shm")  # what a killed process has written stays, there as on a disk
    with tempfile.TemporaryDirectory(prefix="kills-", dir=memory if os.access(memory, os.W_OK) else None) as place:
        work, known = Path(place), dict[str, tuple[Any, int, float]]()
        while seen["kills"] < kills:
            name = names[seen["runs"] % len(names)]
            scenario = SCENARIOS[name]
            if name not in known:
                scenario.prepare(work / name)
                shutil.copytree(work / name, work / "whole")
                began = time.perf_counter()
                told, _ = killed(scenario, work / "whole", 0, "never", 60.0)
                took = time.perf_counter() - began
                known[name] = (scenario.reference(work / name, work / "again"), told[-1]["calls"], took)
                for used in ("whole", "again"):
                    shutil.rmtree(work / used, ignore_errors=True)
            reference, calls, took = known[name]
            at, way = rng.randrange(1, calls + 1), rng.choice(WAYS)
            shutil.copytree(work / name, work / "case")
            told, dead = killed(scenario, work / "case", at, way, rng.uniform(0.0005, took))
            done = [one for one in told if not isinstance(one, dict)]
            scenario.check(work / "case", reference, len(done), (name, at, way))
            shutil.rmtree(work / "case")
            seen["runs"] += 1
            seen["kills"] += dead
            seen[name] += dead
            seen["acknowledged"] += len(done)
            if seen["runs"] > 3 * kills + 50:
                raise AssertionError(f"few of the processes were killed: {dict(seen)}")
    return dict(seen)


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]) if len(sys.argv) > 1 else 500)))
