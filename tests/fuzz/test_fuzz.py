"""A short run of the fuzzer, and that it finds what it looks for."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from memoir_fast.errors import StoreError

from . import child, formats, readers, runner


def test_a_short_run_finds_nothing(tmp_path):
    """Every format; `make fuzz` runs a hundred times as many."""
    found = runner.run(160, seed=20, names=list(formats.FORMATS), findings=tmp_path / "found")
    assert found.findings == [] and sum(found.inputs.values()) >= 150 and set(found.inputs) == set(formats.FORMATS)
    assert not (tmp_path / "found").exists()


@pytest.fixture(scope="module")
def watch(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    for name in ("case", "outside"):
        (work / name).mkdir()
        (work / name / "keep.txt").write_text("x")
    return child.Watch(work / "case", work / "outside")


def _grows(case: Path) -> None:
    case.joinpath("big").write_bytes(b"\1" * (300 << 20))
    case.joinpath("big").unlink()


def _says_much(case: Path) -> None:
    with readers.allowed():
        raise ValueError("x" * 3000)


def _slow(case: Path) -> None:
    with readers.allowed():
        time.sleep(0.3)


def _documented(case: Path) -> None:
    for error in (ValueError("x"), TypeError("x"), StoreError("x")):
        with readers.allowed():
            raise error
    (case / "mine").write_text("x")
    (case / "mine").unlink()


@pytest.mark.parametrize("read, says", [
    (lambda case: {}["x"], "KeyError"), (lambda case: open(case / "absent"), "FileNotFoundError"), (_grows, "MiB of memory"),
    (_slow, "took 0.3 s"), (_says_much, "a message of 3000 characters"), (lambda case: (case / ".." / "outside" / "new").write_text("x"), "open to write"),
    (lambda case: (case.parent / "outside" / "keep.txt").read_text(), "touched what is not its own: .*keep.txt"),
    (lambda case: os.mkdir(case.parent / "beside"), "os.mkdir"), (lambda case: subprocess.run(["true"]), "subprocess.Popen"),
    (_documented, "^$"),
])  # fmt: skip
def test_what_must_not_happen_is_seen(watch, read, says, monkeypatch):
    monkeypatch.setattr(readers, "SLOWEST", 0.25)
    inside = Path(watch.inside)
    found = child.examine(read, inside, Path(watch.outside), watch, named=False)
    assert re.search(says, found), found


def test_a_change_of_the_folder_beside_is_seen_whoever_makes_it(watch):
    """SQLite's own calls, say, which no hook of Python's sees."""
    keep = Path(watch.outside, "keep.txt")

    def behind(case: Path) -> None:
        watch.on = False
        keep.write_text("y")

    try:
        assert (
            child.examine(behind, Path(watch.inside), keep.parent, watch, named=False)
            == "changed the folder beside its own"
        )
    finally:
        keep.write_text("x")


def test_a_process_that_hangs_or_dies_is_a_finding_and_the_next_input_is_read(monkeypatch):
    with runner.workplace(["yaml"]) as reading:
        ask = {"format": "yaml", "seed": "0"}
        assert reading.ask(ask) == ""
        monkeypatch.setattr(runner, "STARTING", 0.5)
        os.kill(reading._process.pid, signal.SIGSTOP)
        assert reading.ask(ask).startswith("hung for")
        monkeypatch.undo()
        assert reading.ask(ask) == ""
        process = reading._process.pid
        os.kill(process, signal.SIGSTOP)
        dies = threading.Timer(1.0, os.kill, (process, signal.SIGKILL))
        dies.start()
        assert reading.ask(ask) == f"the process died with {-signal.SIGKILL}"
        dies.join()
        assert reading.ask(ask) == ""


def test_a_finding_is_read_again_from_its_file(tmp_path):
    with runner.workplace(["facts"]) as reading:
        kept = runner._kept(runner.Finding("facts", "0/facts/1", "x"), reading, tmp_path)
    assert kept.file is not None and runner.replay(kept.file) == ""
    saved = json.loads(kept.file.read_text())
    assert saved["format"] == "facts" and "facts.jsonl" in saved["files"]
