"""What every benchmark shares: the environment, interleaved timing, and results written whole."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
SHIPPED = Path(__file__).parents[1] / "memoir_fast" / "data" / "demo.jsonl"


def arguments(doc: str, model: bool = False, count: int | None = None) -> argparse.ArgumentParser:
    """The options that benchmarks share.

    Args:
        doc: the benchmark's docstring, whose first line describes it.
        model: whether it takes a model; count: how many facts it edits by default, None when it edits none.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--json", help="where to write the result")
    if model or count:
        parser.add_argument("--model", default="smollm2")
    if count:
        parser.add_argument("--edits", default=str(SHIPPED), help="JSONL of facts (default: the demo's)")
        parser.add_argument("--background", help="JSONL of unrelated prompts (default: the shipped ones)")
        parser.add_argument("--count", type=int, default=count, help="how many of the facts")
    return parser


def environment() -> dict:
    """Where and on what a result was measured."""
    import transformers

    import memoir_fast
    from memoir_fast.ops import cpu as _cpu

    found = {
        "memoir_fast": memoir_fast.__version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "simd": _cpu.level() if _cpu.available() else None,
        "date": time.strftime("%Y-%m-%d"),
    }
    if torch.cuda.is_available():
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return found


def _commit() -> str:
    def git(*args: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *args]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def interleaved(candidates: dict, runs: int = 30, warmup: int = 3) -> dict[str, list[float]]:
    """Seconds per call of each candidate, taken in turns so that what disturbs the machine disturbs all of them.

    Args:
        candidates: name to a function without arguments.
        runs: timed calls of each; warmup: untimed ones before.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for round_ in range(warmup + runs):
        for name, call in candidates.items():
            began = time.perf_counter()
            call()
            took = time.perf_counter() - began
            if round_ >= warmup:
                seconds[name].append(took)
    return seconds


def median_us(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1e6, 2)


def ratio(rival: list[float], ours: list[float]) -> float:
    """How many times faster ours is: the median of the pairwise ratios, which forgives a drifting clock."""
    return round(statistics.median(r / o for r, o in zip(rival, ours, strict=True)), 3)


def write(path: str | Path, result: dict) -> None:
    """A result file, written whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(path.suffix + ".part")
    aside.write_text(json.dumps(result, indent=1) + "\n")
    aside.replace(path)
