"""What every benchmark shares: its options, where and on what it ran, and the one way to a result row.

A script makes its `Recorder` before it measures anything: a run that asks to be recorded in `results/` is refused then, not after
hours, where the tree has no clean commit to name.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import time
from pathlib import Path

import torch

from benchmarks import rows
from benchmarks.library import cpu

ROOT = Path(__file__).parents[1]
MEASURED = ("memoir_fast", "kernels", "csrc", "benchmarks", "setup.py", "pyproject.toml", ":!benchmarks/results")
SHIPPED = ROOT / "memoir_fast" / "data" / "demo.jsonl"


class NotTraced(SystemExit):
    """A run cannot be recorded; ends a script with its message, without a traceback."""


def arguments(doc: str, model: bool = False, count: int | None = None) -> argparse.ArgumentParser:
    """The options that benchmarks share.

    Args:
        doc: the benchmark's docstring, whose first line describes it.
        model: whether it takes a model; count: how many facts it edits by default, None when it edits none.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the result row to a file of its own, outside of results/")
    parser.add_argument(
        "--record", action="store_true", help="append the row to benchmarks/results (needs a clean commit)"
    )
    parser.add_argument("--name", help="a label for the run, where a benchmark has many")
    if model or count:
        parser.add_argument("--model", default="smollm2")
    if count:
        parser.add_argument("--edits", default=str(SHIPPED), help="JSONL of facts (default: the demo's)")
        parser.add_argument("--background", help="JSONL of unrelated prompts (default: the shipped ones)")
        parser.add_argument("--count", type=int, default=count, help="how many of the facts")
    return parser


def edits_of(args) -> str:
    """Which facts a benchmark with `--edits`, `--count` and perhaps `--first` edits, for its settings."""
    first = getattr(args, "first", 0)
    return f"{Path(args.edits).name}, rows {first}-{first + args.count - 1}"


class Recorder:
    """Writes one run's row: to `results/` with `--record`, to a file of its own with `--json`.

    Args:
        benchmark: names the row and its file.
        args: the parsed options of `arguments`.
        root: the checkout that is measured; results: the folder of the committed rows.

    Raises:
        NotTraced: the row is to lie among the committed ones and the checkout has no clean commit, or `--json` points there.
    """

    def __init__(self, benchmark: str, args, root: Path = ROOT, results: Path = rows.RESULTS):
        self.benchmark, self.results = benchmark, results
        self.record, self.name = args.record, args.name
        self.json = Path(args.json) if args.json else None
        self.environment, self.date = environment(), time.strftime("%Y-%m-%d")
        self.commit, changed = commit_of(root)
        if self.json and self.json.resolve().is_relative_to(results.resolve()):
            raise NotTraced(
                f"--json {self.json}: rows among the committed results are written with --record, which checks the commit"
            )
        if self.record:
            self.require_clean(changed)
            if (taken := results / rows.series_file(benchmark, self.series_name)).exists():
                raise NotTraced(f"--record: {taken} is there already; give this run another name (--name)")

    @property
    def series_name(self) -> str:
        """What the run's long lists are filed under."""
        return self.name or self.commit or "run"

    def require_clean(self, changed: list[str]) -> None:
        """Raise NotTraced unless the commit alone says what is measured."""
        if self.commit is None:
            raise NotTraced(
                "--record: no git commit to name here. Run in a clone of the repository, or write with --json FILE"
            )
        if not rows.is_clean(self.commit):
            shown = ", ".join(changed[:4]) + (", ..." if len(changed) > 4 else "")
            raise NotTraced(
                f"--record: the tree differs from its commit ({shown}). Commit or stash the changes and run again, or write with --json FILE"
            )

    def goes_on(self, began: str | None) -> None:
        """The run goes on from one that began at another commit, perhaps: then no single commit says what is measured.

        Raises:
            NotTraced: such a run was to be recorded.
        """
        if began == self.commit:
            return
        if self.record:
            raise NotTraced(
                f"--record: the run in this folder began at commit {began}, now it is {self.commit}. Take a new folder, or write with --json FILE"
            )
        self.commit = f"{began or 'unknown'}+{self.commit or 'unknown'}"

    def row(self, settings: dict, result: dict) -> rows.Row:
        clean = rows.is_clean(self.commit)
        return rows.Row(
            self.benchmark, self.date, self.commit, clean, self.environment, settings, result, self.name or None
        )

    def write(self, settings: dict, result: dict, series: dict | None = None) -> None:
        """The run's row, and beside it its long lists; `--json` keeps them in the row's own file, as `series`."""
        row = self.row(settings, result)
        if self.json:
            write_alone(self.json, row, series)
            note = "" if row.traced else " (uncommitted: this row names no clean commit)"
            print(f"wrote {self.json}{note}")
        if self.record:
            if series:
                place = rows.write_series(series, self.benchmark, self.series_name, self.results)
                row = rows.Row(**{**vars(row), "series": place})
            print(f"recorded in {rows.append(row, self.results)}")


def write_alone(path: Path, row: rows.Row, series: dict | None = None) -> None:
    """A file with one row, written whole or not at all; its series, if any, lie beside it as `<file>.series.gz`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if series:
        beside = path.with_name(path.name + ".series.gz")
        beside.unlink(missing_ok=True)
        place = rows.write_series(series, row.benchmark, row.name or "run", path.parent)
        (path.parent / place).replace(beside)
        row = rows.Row(**{**vars(row), "series": beside.name})
    aside = path.with_name(path.name + ".part")
    aside.write_text(row.line() + "\n", "utf-8")
    aside.replace(path)


def environment() -> dict:
    """On what a result is measured."""
    import transformers

    import memoir_fast

    found = {
        "memoir_fast": memoir_fast.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "simd": cpu.level() if cpu.available() else None,
    }
    if torch.cuda.is_available():
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return found


def commit_of(root: Path) -> tuple[str | None, list[str]]:
    """The commit of a checkout, `+changes` behind it where what is measured differs from it, and the paths that differ.

    Rows that were just recorded do not count, nor do files that git ignores. No git or no commit: (None, []).
    """

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout if done.returncode == 0 else None

    head = git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return None, []
    status = git("status", "--porcelain", "--", *MEASURED)
    if status is None:
        return None, []
    changed = [line[3:] for line in status.splitlines()]
    return head.strip() + ("+changes" if changed else ""), changed


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
