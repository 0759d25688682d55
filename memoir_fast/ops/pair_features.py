"""Features of a query beside stored prompts, from the arrays of their words, by the C++ extension.

What the features mean says `reading/matching/verify.py`, which is the specification and serves without the extension.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import cpu, dispatch


def extension_compares() -> bool:
    """Whether `pair_features` and the functions of `cpu.py` that find candidates by words serve: the extension loads, and
    the backend `reference` is not asked for."""
    return cpu.available() and dispatch.requested() != "reference"


def comparer() -> str:
    """What compares prompts with stored wordings here, in words."""
    if extension_compares():
        return f"the extension ({cpu.level()})"
    return "numpy (MEMOIR_FAST_BACKEND=reference)" if cpu.available() else "numpy (the extension is not built)"


def pair_features(
    query: Mapping[str, Any], store: Mapping[str, np.ndarray], rows: np.ndarray, sense_length: int
) -> np.ndarray:
    """(F, C) float32: F features of a query beside each of C stored prompts, in the order of `cpu.PAIR_FEATURES`.

    Args:
        query: the fields of a `PromptCode` that has words.
        store: the arrays of a `KeyStore`.
        rows: (C,) int64, the numbers of the stored prompts.
        sense_length: the length of a word's own vector.

    Raises:
        ValueError: an array is missing, has another shape or type, or holds a number that is out of range; the message
            names it.
        TypeError: an argument is of another type.
    """
    return cpu.pair_features(dict(query), dict(store), rows, sense_length)
