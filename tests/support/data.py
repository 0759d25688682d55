"""Facts for the tests: thirty of our own, and the larger evaluation data where it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Thirty facts with the fields of every benchmark's records, so that a test of any format needs nothing from outside the checkout.
SAMPLE = Path(__file__).with_name("facts.jsonl")


def facts_file(name: str) -> Path:
    """A file of the evaluation data where MEMOIR_FAST_DATA names its folder, otherwise our own thirty facts."""
    return data_file(name) if os.environ.get("MEMOIR_FAST_DATA") else SAMPLE


def data_file(name: str) -> Path:
    """A file of the evaluation data. Skips with one line when MEMOIR_FAST_DATA is not set; fails where it is and the file is not there."""
    given = os.environ.get("MEMOIR_FAST_DATA")
    if not given:
        pytest.skip(f"evaluation data not here: set MEMOIR_FAST_DATA to the folder with {name}")
    path = Path(given) / name
    if not path.is_file():
        pytest.fail(f"MEMOIR_FAST_DATA={given} has no {name}")
    return path
