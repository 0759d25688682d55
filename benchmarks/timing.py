"""Timing of calls in turns, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import statistics
import time

import torch


def settle(device: torch.device) -> None:
    """Wait until a GPU has done what was asked of it; a CPU has already."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(candidates: dict, runs: int = 30, warmup: int = 3) -> dict[str, list[float]]:
    """Seconds per call of each candidate, taken in turns.

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


def seconds_of(call, runs: int) -> float:
    """Median seconds of one call."""
    return statistics.median(interleaved({"call": call}, runs, warmup=0)["call"])


def median_us(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1e6, 2)


def ratio(rival: list[float], ours: list[float]) -> float:
    """How many times faster ours is: the median of the pairwise ratios, which forgives a drifting clock."""
    return round(statistics.median(r / o for r, o in zip(rival, ours, strict=True)), 3)
