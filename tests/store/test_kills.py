"""Processes killed in the middle of a change, at system calls and at random moments: nothing acknowledged is lost, nothing is half done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.kill_scenarios import SCENARIOS

ROOT = Path(__file__).parents[2]


def _run(arguments: list[str]) -> dict:
    """The driver in a process of its own: it forks."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "tests.support.kills", *arguments], capture_output=True, text=True, timeout=1800, cwd=ROOT,
                          env=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_a_few_kills_of_every_kind():
    seen = _run(["75"])
    assert seen["kills"] == 75 and seen["acknowledged"] > 20 and all(seen[name] >= 1 for name in SCENARIOS)


@pytest.mark.long
def test_six_hundred_kills():
    seen = _run(["600"])
    assert seen["kills"] == 600 and seen["acknowledged"] > 400 and all(seen[name] >= 30 for name in SCENARIOS)


_EAGER = """
import dataclasses, sys
from tests.support import kill_scenarios, kills
good = kill_scenarios.SCENARIOS["edit"]
def eager(folder, tell):  # acknowledges before it writes
    kill_scenarios._acting(tuple(lambda s, step=step, n=n: (tell(n), step(s)) for n, step in enumerate(kill_scenarios.EDITS)))(folder, lambda n: None)
kills.SCENARIOS["edit"] = dataclasses.replace(good, act=eager)
kills.run(40, names=("edit",))
"""


def test_a_writer_that_acknowledges_too_early_is_found_out():
    done = subprocess.run([sys.executable, "-c", _EAGER], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 1 and "AssertionError" in done.stderr and "'edit'" in done.stderr, done.stderr[-2000:]
