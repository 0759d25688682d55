"""The streams of edits among the rows: which run stands for which settings."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks import rows
from benchmarks.rows import Row

BENCHMARKS = ("retention", "replay")
DEFAULT = {"write": "preconditioned", "feature": "mean_decentered", "replay": None, "top_k": 440, "ridge": 1.0,
           "edit_lr": 6.0, "momentum": 0.8, "weight_decay": 0.0, "precision": "fast", "recipe": "own"}  # fmt: skip
# Plain SGD; with `recipe="published"` beside it the authors' own optimisation, without it a loss divided by n.
PLAIN_SGD = {"write": "sgd", "edit_lr": 3.0, "momentum": 0.0, "weight_decay": 1e-5}
ADAPTIVE = {
    "edit_lr": None,
    "momentum": None,
    "weight_decay": None,
}  # steps that adapt their length, as they do unless one of these is given
ZSRE_100 = "zsre.jsonl, rows 0-99"


def switches(row: Row) -> dict:
    """The settings by which streams are told apart, experiments' included."""
    found = {name: row.settings["config"].get(name, row.settings.get(name)) for name in DEFAULT}
    return found | {"recipe": found["recipe"] or "own"}  # the oldest rows know of no other


def read(results: Path) -> list[Row]:
    """The latest run of each stream: rows, switches and seed."""
    found = {}
    for row in (row for benchmark in BENCHMARKS for row in rows.read(benchmark, results)):
        _add_average(row)
        found[(row.settings["edits"], row.settings["seed"], *switches(row).values())] = row
    return list(found.values())


def groups(streams: list[Row], edits: str) -> list[list[Row]]:
    """The streams over some rows, those that differ by their seed alone together."""
    found: dict[tuple, list[Row]] = {}
    for row in streams:
        if row.settings["edits"] == edits:
            found.setdefault(tuple(switches(row).values()), []).append(row)
    return [sorted(group, key=lambda row: row.settings["seed"]) for group in found.values()]


def pick(streams: list[Row], edits: str, **changed) -> list[Row]:
    """The streams over some rows whose switches are the default's but for `changed`, one a seed."""
    wanted = tuple((DEFAULT | changed).values())
    return next((group for group in groups(streams, edits) if tuple(switches(group[0]).values()) == wanted), [])


def last(row: Row) -> dict:
    """The last checkpoint."""
    return row.result["checkpoints"][-1]


def _add_average(row: Row) -> None:
    """The oldest runs did not write the mean of their three scores."""
    for mark in row.result["checkpoints"]:
        for scores in mark.values():
            if isinstance(scores, dict) and "reliability" in scores:
                three = [scores[name] for name in ("reliability", "generalization", "locality")]
                scores.setdefault("average", statistics.mean(three))
