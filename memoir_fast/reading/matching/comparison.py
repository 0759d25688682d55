"""A query compared with stored prompts: by the C++ extension, or without it by numpy (`verify.py` and `judge.py`, the
specification)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ... import ops
from ...ops import cpu
from .classifier import Classifier
from .judge import asks_more, contradicted, only_mentions
from .key_store import KeyStore
from .pairs import MOST_QUERY_WORDS
from .prompt_codes import PromptCode
from .senses import LENGTH
from .verify import FEATURES, compared, stacked

_LINES = {name: line for line, name in enumerate(cpu.PAIR_FEATURES)}


class Comparison(NamedTuple):
    """A query beside C stored prompts.

    Attributes:
        features: (C, F) float32, in the order of `FEATURES`, for the classifier.
        contradicted: (C,) bool, see `judge.contradicted`.
        excluded: (C,) bool, whether a word of the query excludes one of the stored prompt's: the feature "contrast".
        denied: (C,) bool, whether `judge.only_mentions` or `judge.asks_more` holds.
    """

    features: np.ndarray
    contradicted: np.ndarray
    excluded: np.ndarray
    denied: np.ndarray


def compare(query: PromptCode, table: KeyStore, which: np.ndarray) -> Comparison:
    """Compare a query that has words with the stored prompts `which` (C,), rows of the table."""
    if not ops.extension_compares():
        found = compared(query, table, which)
        denied = only_mentions(found) | asks_more(found)
        return Comparison(stacked(found), contradicted(found), found["contrast"] > 0, denied)
    lines = ops.pair_features(vars(query.last(MOST_QUERY_WORDS)), table.arrays(), which, LENGTH)
    said = (lines[_LINES[name]] > 0 for name in ("contradicted", "contrast", "denied"))
    return Comparison(lines[: len(FEATURES)].T, *said)


def surely_asks(query: PromptCode, table: KeyStore, classifier: Classifier, least: float) -> bool:
    """Whether a query asks for the table's only stored prompt with a probability of at least `least`, and both have the
    same numbers and names."""
    features = compare(query, table, np.zeros(1, np.int64)).features
    found = dict(zip(FEATURES, features[0].tolist(), strict=True))
    exact = min(found["key_names_weakest"], found["query_names_weakest"]) >= 1
    differs = found["numbers_missing"] or found["numbers_added"] or found["contrast"]
    return bool(exact and not differs and classifier.probabilities(features)[0] >= least)
