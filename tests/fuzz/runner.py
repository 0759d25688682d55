"""Runs inputs in child processes, watches them, and keeps what was found."""

from __future__ import annotations

import base64
import json
import os
import random
import select
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import formats

PATIENCE = (
    30.0  # seconds until a child counts as hung; it calls itself too slow long before that, if it comes to its end
)
STARTING = 180.0  # seconds for a child's imports, on a crowded machine
_ROOT = Path(__file__).parents[2]


@dataclass
class Finding:
    """An input with which something was wrong. file: where it was saved."""

    format: str
    seed: str
    wrong: str
    file: Path | None = None


@dataclass
class Outcome:
    """What a run saw. inputs: by format."""

    inputs: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0


class Child:
    """One reading process, started anew after it hung or died."""

    def __init__(self, seeds: Path, work: Path):
        self.seeds, self.work = seeds, work
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: dict[str, str]) -> str:
        """What was wrong with an input, or an empty text."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        for patience in (STARTING, PATIENCE):
            answer = self._line(patience)
            if answer is None:
                code = self._process.poll()
                self.close()
                return f"hung for {patience:.0f} s" if code is None else f"the process died with {code}"
            if "wrong" in answer:
                return str(answer["wrong"])
        return "no answer"

    def _start(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(self.work / "case"),
                       "MEMOIR_FAST_CACHE": str(self.work / "case" / "cache"), "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
        self._process = subprocess.Popen([sys.executable, "-m", "tests.fuzz.child", str(self.seeds), str(self.work)], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=_ROOT, env=environment)  # fmt: skip

    def _line(self, patience: float) -> dict[str, Any] | None:
        assert self._process is not None and self._process.stdout is not None
        end, got = time.monotonic() + patience, b""
        while not got.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))
            more = os.read(self._process.stdout.fileno(), 1 << 16) if ready else b""
            if not more:
                if ready:
                    self._process.wait()
                return None
            got += more
        found: dict[str, Any] = {}
        for line in got.splitlines():
            found |= json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None


@contextmanager
def workplace(names: list[str]) -> Iterator[Child]:
    """A child with its folders and the sound files of some formats; all of it goes away at the end."""
    memory = Path("/dev/shm")  # many small files, flushed again and again
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        work = Path(folder)
        (work / "outside").mkdir()
        (work / "outside" / "keep.txt").write_text("nobody may touch this\n" * 20)
        formats.make_all(work / "seeds", names)
        child = Child(work / "seeds", work)
        try:
            yield child
        finally:
            child.close()


def run(
    inputs: int,
    seed: int,
    names: list[str],
    findings: Path | None = None,
    seconds: float | None = None,
    most: int = 200,
) -> Outcome:
    """Read damaged inputs.

    Args:
        inputs: how many, shared among the formats by their shares; seed: of all of them.
        findings: a folder for what is found; seconds: end earlier, after so many; most: findings after which to end.
    """
    outcome, begun = Outcome(), time.monotonic()
    total = sum(formats.FORMATS[name].share for name in names)
    order = [name for name in names for _ in range(max(1, round(inputs * formats.FORMATS[name].share / total)))]
    random.Random(seed).shuffle(order)
    with workplace(names) as child:
        for number, name in enumerate(order):
            if (seconds is not None and time.monotonic() - begun > seconds) or len(outcome.findings) >= most:
                break
            request = {"format": name, "seed": f"{seed}/{name}/{number}"}
            wrong = child.ask(request)
            if "took" in wrong or "hung" in wrong:  # the machine may have been busy: once more, in a process of its own
                child.close()
                wrong = child.ask(request)
            outcome.inputs[name] += 1
            if wrong:
                outcome.findings.append(_kept(Finding(name, request["seed"], wrong), child, findings))
                print(
                    f"{outcome.findings[-1].file or request['seed']}: {wrong.strip().splitlines()[-1]}",
                    file=sys.stderr,
                    flush=True,
                )
    outcome.seconds = time.monotonic() - begun
    return outcome


def _kept(finding: Finding, child: Child, folder: Path | None) -> Finding:
    """Save an input as it was before it was read."""
    if folder is None:
        return finding
    folder.mkdir(parents=True, exist_ok=True)
    finding.file = folder / (finding.seed.replace("/", "-") + ".json")
    again = child.work / "again"
    shutil.rmtree(again, ignore_errors=True)
    formats.damaged(finding.format, child.seeds, again, child.work / "outside", finding.seed)
    files = {str(path.relative_to(again)): _packed(path) for path in sorted(again.rglob("*"))}
    finding.file.write_text(
        json.dumps({"format": finding.format, "seed": finding.seed, "wrong": finding.wrong, "files": files}, indent=1)
    )
    shutil.rmtree(again)
    return finding


def _packed(path: Path) -> dict[str, Any]:
    about = path.lstat()
    if path.is_symlink():
        return {"link": os.readlink(path)}
    if path.is_dir():
        return {"folder": True}
    if stat.S_ISFIFO(about.st_mode):
        return {"pipe": True}
    if not stat.S_ISREG(about.st_mode):
        return {"socket": True}
    with open(path, "rb") as file:
        data = file.read(min(about.st_size, 64 << 20))  # larger ones are holes
    return {"size": about.st_size, "bytes": base64.b64encode(data.rstrip(b"\0")).decode()}


def replay(file: Path) -> str:
    """Read a finding's input again; what was wrong, or an empty text."""
    kept = json.loads(file.read_text())
    with workplace([]) as child:
        case = child.work / "case"
        case.mkdir()
        for name, about in kept["files"].items():
            path = case / name
            if "folder" in about:
                path.mkdir(exist_ok=True)
            elif "link" in about:
                link = Path(about["link"])
                path.symlink_to(child.work / "outside" / link.name if link.parent.name == "outside" else link)
            elif "pipe" in about:
                os.mkfifo(path)
            elif "socket" in about:
                os.mknod(path, stat.S_IFSOCK | 0o644)
            else:
                path.write_bytes(base64.b64decode(about["bytes"]))
                os.truncate(path, about["size"])
        return child.ask({"format": kept["format"]})
