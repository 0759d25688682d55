"""The first stage: FAISS's index finds what a direct comparison finds, while rows come and go."""

from __future__ import annotations

import numpy as np
import pytest

from memoir_fast.reading.matching import candidates
from memoir_fast.reading.matching.candidates import Candidates
from tests.support.words import read, texts, tiny_matcher


@pytest.fixture(scope="module")
def codes():
    matcher = tiny_matcher()
    return matcher, [read(matcher, text)[1] for text in texts(120)]


def filled(matcher, some) -> Candidates:
    found = Candidates(matcher.bits)
    for code in some:
        found.add(code)
    return found


def distances(index: Candidates, query, rows) -> list[int]:
    code = candidates.summed(query, index.bits)
    return np.bitwise_count(index._sums.view[rows] ^ code).sum(1, dtype=np.int64).tolist()


def test_the_index_finds_what_a_direct_comparison_finds(codes, monkeypatch):
    matcher, all_codes = codes
    opened = np.arange(120) % 3 > 0
    direct, indexed = filled(matcher, all_codes[:100]), filled(matcher, all_codes[:100])
    for step in range(2):
        for query in all_codes[::20]:
            for rows in (None, opened[: len(direct)]):
                monkeypatch.setattr(candidates, "DIRECT", 1 << 20)
                wanted = direct.near(query, 8, rows)
                monkeypatch.setattr(candidates, "DIRECT", 10)
                found = indexed.near(query, 8, rows)
                assert indexed._index is not None and (rows is None or rows[found].all())
                # Among equals the two may choose differently; how near they are must not differ.
                assert distances(indexed, query, found) == distances(direct, query, wanted)
        if step == 0:
            for code in all_codes[100:]:  # rows that come after the index was made
                direct.add(code), indexed.add(code)


def test_words_find_rows_until_they_are_removed(codes):
    matcher, all_codes = codes
    index = filled(matcher, all_codes)
    assert index.lexical(all_codes[7], 3)[0] == 7
    index.remove(7, all_codes[7].word.tolist())
    assert 7 not in index.lexical(all_codes[7], 120)
    fresh = filled(matcher, all_codes)
    few = np.zeros(120, bool)
    few[[3, 9]] = True
    assert (
        set(fresh.lexical(all_codes[9], 120, few).tolist()) <= {3, 9} and fresh(all_codes[9], 5, few).tolist()[-1] == 9
    )


def test_a_budget_is_kept_and_the_rarest_words_are_read(codes):
    matcher, all_codes = codes
    small = Candidates(matcher.bits, budget=1)
    for code in all_codes:
        small.add(code)
    assert 7 in small.lexical(all_codes[7], 120)
