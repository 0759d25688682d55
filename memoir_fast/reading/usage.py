"""How often each edit is read, and how often it nearly was: counted in servers and for files of questions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

# A question that reads nothing is nearly a reading of its likeliest edit from this share of that edit's threshold on.
NEAR = 0.8
# The scores of questions that read an edit, or nearly did, are sorted into these: up to and with each, and the rest.
EDGES = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
# One edit's numbers. last: when it was last read or missed, seconds since 1970; total: of the scores.
USE = np.dtype([("edit", "<i8"), ("reads", "<u8"), ("nearly", "<u8"), ("last", "<f8"), ("total", "<f8"), ("scores", "<u8", len(EDGES) + 1)])  # fmt: skip
OTHER = -1  # stands for all edits that have no line of their own


def is_near(score: float, threshold: float) -> bool:
    """Whether a question with this score, 0..1, for its likeliest edit nearly reads it."""
    return NEAR * threshold <= score < threshold


def count(line: np.ndarray, read: bool, score: float | None, now: float) -> None:
    """Count a reading, or nearly one, in a line of `USE`; score: None for an edit that was named and not found."""
    line["reads" if read else "nearly"] += 1
    line["last"] = now
    if score is not None:
        line["total"] += score
        line["scores"][np.searchsorted(EDGES, score)] += 1


def merged(lines: np.ndarray, most: int) -> np.ndarray:
    """Lines of several processes added up: one for each edit, the one used last first. All but the first `most` edits, and `OTHER`, are added to
    a line `OTHER` at the end."""
    found: dict[int, np.ndarray] = {}
    for line in lines:
        add(found.setdefault(int(line["edit"]), empty(int(line["edit"]))), line)
    other = found.pop(OTHER, empty(OTHER))
    order = sorted(found.values(), key=lambda line: (-float(line["last"]), int(line["edit"])))
    for line in order[most:]:
        add(other, line)
    return np.array([*order[:most], other], USE)


def empty(edit: int) -> np.ndarray:
    """A line of `USE` without counts, as an array without dimensions."""
    line = np.zeros((), USE)
    line["edit"] = edit
    return line


def add(line: np.ndarray, more: np.ndarray) -> None:
    """Add another line's counts to one."""
    for name in ("reads", "nearly", "total", "scores"):
        line[name] += more[name]
    line["last"] = max(line["last"], more["last"])


def usage(routes: Sequence[dict[str, Any]], edits: Iterable[int]) -> dict[str, Any]:
    """How often prompts read each edit, or nearly did.

    Args:
        routes: the prompts' decisions, as `Answering.route` gives them with several candidates.
        edits: the ids of all active edits.

    Returns:
        as `Answering.usage`.
    """
    lines: dict[int, np.ndarray] = {}
    near = []
    for number, route in enumerate(routes):
        edit, score, threshold = route["edit"], route["score"], route["threshold"]
        likeliest = next((one["edit"] for one in route["candidates"] if not one.get("kept_out")), None)
        nearest = likeliest if edit is None else edit
        if nearest is None or (edit is None and not is_near(score, threshold)):
            continue
        count(lines.setdefault(nearest, empty(nearest)), edit is not None, score, time.time())
        if edit is None:
            near.append({"prompt": number, "edit": nearest, "score": score, "threshold": threshold})
    return {
        **listed(list(lines.values()), edits),
        "nearly": sorted(near, key=lambda one: one["score"] / one["threshold"], reverse=True),
    }


def listed(lines: Iterable[np.ndarray], edits: Iterable[int]) -> dict[str, Any]:
    """Lines as a report: "edits", id -> {"reads", "nearly_read"}, those read most often first, and "never" read."""
    lines = [line for line in lines if line["edit"] != OTHER]
    order = sorted(lines, key=lambda line: (-int(line["reads"]), -int(line["nearly"]), int(line["edit"])))
    counts = {int(line["edit"]): {"reads": int(line["reads"]), "nearly_read": int(line["nearly"])} for line in order}
    return {"edits": counts, "never": sorted(set(edits) - {edit for edit, one in counts.items() if one["reads"]})}
