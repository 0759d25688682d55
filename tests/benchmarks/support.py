"""Rows for tiny models, which know words w0 to w179."""

from __future__ import annotations

from benchmarks.quality.tasks import Row

ROWS = [
    Row("w100 w101 w102", "w150", "w101 w100 w102", "w20 w21 w22", "w30 w31", "w151", "w40 w41"),
    Row("w110 w111 w112", "w152", "w111 w110 w112", "w23 w24 w25", "w32", "w153", "w42"),
]


def pair(row: int) -> tuple[str, str]:
    """A row's prompt and target."""
    return ROWS[row].prompt, ROWS[row].target
