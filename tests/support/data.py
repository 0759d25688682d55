"""Where the evaluation data lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def data_file(name: str) -> Path:
    """A file of the evaluation data. Absent: skip with one line, but fail where MEMOIR_FAST_DATA says it must be."""
    given = os.environ.get("MEMOIR_FAST_DATA")
    folder = Path(given) if given else Path(__file__).parents[2] / ".." / "shared" / "data"
    path = folder / name
    if path.is_file():
        return path
    if given:
        pytest.fail(f"MEMOIR_FAST_DATA={given} has no {name}")
    pytest.skip(f"evaluation data not here: set MEMOIR_FAST_DATA to the folder with {name}")
