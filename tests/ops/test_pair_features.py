"""What the extension refuses to compare; the values are tested in tests/reading/matching/test_comparison.py."""

from __future__ import annotations

import numpy as np
import pytest

from memoir_fast import ops
from memoir_fast.ops import cpu
from memoir_fast.reading.matching.key_store import KeyStore
from memoir_fast.reading.matching.verify import FEATURES
from tests.support.random_codes import random_code, random_words

ROWS = np.arange(4)


def case():
    """The arrays of a query of 9 words in 3 sentences, and of 4 stored prompts."""
    rng = np.random.default_rng(0)
    words = random_words(rng, 10)
    query = random_code(rng, words, 9)
    query.sentence = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2], np.int32)
    query.asks, query.answer = np.ones(3, bool), np.zeros(3, np.uint16)
    query.demands = np.zeros(3, np.uint8)
    table = KeyStore(random_code(rng, words, length) for length in (3, 5, 1, 6))
    return dict(vars(query)), {name: values.copy() for name, values in table.arrays().items()}


def test_the_features_are_named_as_the_specification_names_them():
    assert cpu.PAIR_FEATURES[: len(FEATURES)] == tuple(FEATURES)
    assert ops.pair_features(*case(), ROWS, 127).shape == (len(cpu.PAIR_FEATURES), 4)
    assert ops.pair_features(*case(), ROWS[:0], 127).shape == (len(cpu.PAIR_FEATURES), 0)


@pytest.mark.parametrize("side", [0, 1])
def test_every_array_is_checked(side):
    argument = ("query", "store")[side]
    for name, values in case()[side].items():
        if name == "text" and side == 0:
            continue
        for wrong, error, says in (
            (values.astype(np.complex64), ValueError, "must be a contiguous .*, got complex64"),
            (values[..., None], ValueError, "must be a contiguous .* of shape"),
            (np.repeat(values, 2, 0)[::2], ValueError, "must be a contiguous"),
            (values.tolist(), TypeError, "must be a numpy array"),
            (None, TypeError, "must be a numpy array"),
        ):
            given = case()
            given[side][name] = wrong
            with pytest.raises(error, match=rf"{argument}\['{name}'\] {says}"):
                ops.pair_features(*given, ROWS, 127)
        given = case()
        del given[side][name]
        with pytest.raises(ValueError, match=rf"{argument}\['{name}'\] is missing"):
            ops.pair_features(*given, ROWS, 127)


@pytest.mark.parametrize(
    ("side", "name", "places"),
    [
        (0, "weight", slice(1, None)),
        (0, "demands", slice(1, None)),
        (0, "spelling", (slice(None), slice(1, None))),
        (0, "sense", (slice(None), slice(1, None))),
        (1, "code", (slice(None), slice(1, None))),
        (1, "answer", slice(1, None)),
        (1, "sense", slice(1, None)),
        (1, "weight", slice(1, None)),
    ],
)
def test_sizes_must_agree(side, name, places):
    given = case()
    given[side][name] = np.ascontiguousarray(given[side][name][places])
    with pytest.raises(ValueError, match=r"\['\w+'\] must be a contiguous \w+ array of shape .*, got \w+ of shape"):
        ops.pair_features(*given, ROWS, 127)


@pytest.mark.parametrize(
    ("side", "name", "place", "value", "says"),
    [
        (0, "sentence", 0, 1, r"query\['sentence'\] must begin at 0 and ascend by at most 1, got 1 after -1 at word 0"),
        (0, "sentence", 5, 0, r"query\['sentence'\] must begin .*, got 0 after 1 at word 5"),
        (0, "sentence", 8, 7, r"query\['sentence'\] must begin .*, got 7 after 2 at word 8"),
        (1, "words", 3, -1, r"store\['words'\] must be in \[0, \d+\], got values -1"),
        (1, "words", 3, 1000, r"store\['words'\] must be in \[0, \d+\], got values \d+..1000"),
        (1, "bounds", 4, 4000, r"store\['bounds'\] must ascend up to 15, got 9..4000 for row 3"),
        (1, "bounds", 1, 12, r"store\['bounds'\] must ascend up to 15, got 12..8 for row 1"),
    ],
)
def test_numbers_out_of_range_are_refused(side, name, place, value, says):
    given = case()
    given[side][name][place] = value
    with pytest.raises(ValueError, match=says):
        ops.pair_features(*given, ROWS, 127)


def test_rows_and_sentences_must_be_there():
    for row in (-1, 4):
        with pytest.raises(ValueError, match=rf"rows must be in \[0, 3\], got {row}"):
            ops.pair_features(*case(), np.array([0, row]), 127)
    with pytest.raises(TypeError):
        ops.pair_features(*case(), np.array([0.0]), 127)
    with pytest.raises(ValueError, match="rows must have one dimension, got 2"):
        ops.pair_features(*case(), ROWS[None], 127)
    query, store = case()
    for name in ("asks", "answer", "demands"):
        query[name] = np.repeat(query[name], 2)
    with pytest.raises(ValueError, match=r"query\['asks'\] must have an entry for each of the 3 sentences .*, got 6"):
        ops.pair_features(query, store, ROWS, 127)
    query = {name: values[:0] if name != "text" else values for name, values in case()[0].items()}
    with pytest.raises(ValueError, match=r"query\['word'\] must have at least one word"):
        ops.pair_features(query, store, ROWS, 127)
