"""The first stage: FAISS's index finds what a direct comparison finds, while rows come and go."""

from __future__ import annotations

from array import array
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoir_fast import ops
from memoir_fast.ops import cpu
from memoir_fast.reading.matching import candidates
from memoir_fast.reading.matching.candidates import Candidates
from tests.support.random_codes import random_code, random_words
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


@pytest.mark.parametrize("budget", [3, 60, 1 << 20])
def test_shared_words_are_counted_as_by_hand(codes, budget):
    """Every row's sum, word by word, the rarest first; the newest among equals; again and again from the same index."""
    matcher, all_codes = codes
    index = Candidates(matcher.bits, budget=budget)
    for code in [*all_codes[:60], *all_codes[:60]]:  # each twice, so that there are equals
        index.add(code)
    index.remove(5, all_codes[5].word.tolist())
    opened = np.arange(120) % 4 > 0
    for query in all_codes[::9]:
        weights = {}
        for word, weight in zip(query.word.tolist(), query.weight.tolist(), strict=True):
            weights[word] = max(weight, weights.get(word, 0.0))
        holders = {w: [r for r in range(120) if r != 5 and w in all_codes[r % 60].word] for w in weights}
        sums, read = dict.fromkeys(range(120), 0.0), 0
        for length, word in sorted((len(rows), w) for w, rows in holders.items() if rows):
            if read and read + length > budget:
                break
            read += length
            for row in holders[word]:
                sums[row] += weights[word] * min(1.0, np.log(1 + 119 / length) / 5)
        sizes = [np.float32(np.sqrt(max(float(all_codes[r % 60].weight.sum()), 0.05))) for r in range(120)]
        for rows in (None, opened):
            ranked = sorted((-total / sizes[r], -r) for r, total in sums.items() if total and (rows is None or rows[r]))
            for number in (1, 7, 200):
                assert index.lexical(query, number, rows).tolist() == [-r for _, r in ranked[:number]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 60), st.integers(1, 40))
def test_the_extension_finds_what_numpy_finds(seed, count, number):
    """Bit for bit: an index of summed codes that was written with one is read with the other."""
    rng = np.random.default_rng(seed)
    words, bits = random_words(rng, int(rng.integers(2, 40))), int(rng.integers(1, 17)) * 8
    stored = [random_code(rng, words, int(rng.integers(0, 12)), bits=128) for _ in range(count)]
    queries = [random_code(rng, words, length, bits=128) for length in (0, 1, 9, 100)]
    opened = rng.random(count) < 0.6
    found = {}
    for backend in ("cpp", "reference"):
        with ops.use_backend(backend):
            index = Candidates(bits, budget=int(seed % 50) + 1)
            for code in stored:
                index.add(trimmed(code, bits))
            index.remove(0, stored[0].word.tolist())
            found[backend] = [index._sums.view.tolist()]
            for query in queries:
                for rows in (None, opened):
                    asked = trimmed(query, bits)
                    some = [
                        index.lexical(asked, number, rows),
                        index.near(asked, number, rows),
                        index(asked, number, rows),
                    ]
                    assert all(rows_found.dtype == np.int64 for rows_found in some)
                    found[backend].append([rows_found.tolist() for rows_found in some])
            assert not index._scores.any()
    assert found["cpp"] == found["reference"]


def test_every_simd_level_sums_codes_alike():
    rng = np.random.default_rng(2)
    code = random_code(rng, random_words(rng, 50), 200, bits=576)
    with ops.use_backend("reference"):
        wanted = candidates.summed(code, 576).tolist()
    before = cpu.level()
    try:
        for level in cpu._C.levels():
            cpu._C.set_level(level)
            assert candidates.summed(code, 576).tolist() == wanted, level
    finally:
        cpu._C.set_level(before)


def trimmed(code, bits):
    """The code with as many 64-bit words as `bits` take, and no bit after them."""
    width = (bits + 63) // 64
    kept = code.code[:, :width].copy()
    if bits % 64 and len(kept):
        kept[:, -1] &= np.uint64((1 << bits % 64) - 1)
    return replace(code, code=kept)


@pytest.mark.parametrize(
    ("postings", "worth", "scores", "open_rows", "says"),
    [
        ([array("I", [0, 3])], [1.0], 3, None, r"postings must be in \[0, 2\], got 3"),
        ([[0, 1]], [1.0], 3, None, "postings must be arrays of uint32"),
        ([array("Q", [0])], [1.0], 3, None, "postings must be arrays of uint32"),
        ([array("I", [0])], [1.0, 2.0], 3, None, "worth must have an entry for each list"),
        ([array("I", [0])], [1.0], 2, None, "scores must have an entry for each row"),
        ([array("I", [0])], [1.0], 3, np.ones(2, bool), "open_rows must have an entry for each of the 3 rows"),
        ([array("I", [0])], [1.0], 3, np.ones(3), "open_rows must be a contiguous bool array or None"),
    ],
)
def test_the_extension_refuses_lists_that_do_not_fit(postings, worth, scores, open_rows, says):
    with pytest.raises(ValueError, match=says):
        cpu.rows_by_words(postings, np.array(worth), np.ones(3, np.float32), np.zeros(scores), 2, open_rows)
    with pytest.raises(ValueError, match=r"sums must be \(R, L\) and code \(L,\)"):
        cpu.nearest_sums(np.zeros((3, 2), np.uint64), np.zeros(3, np.uint64), 2, None)
    with pytest.raises(ValueError, match="weight must have an entry for each of the 3 words"):
        cpu.summed_codes(np.zeros((3, 2), np.uint64), np.zeros(2, np.float32), np.ones(3, bool), 128)
    with pytest.raises(ValueError, match=r"bits must be in \[0, 128\], got 129"):
        cpu.summed_codes(np.zeros((3, 2), np.uint64), np.zeros(3, np.float32), np.ones(3, bool), 129)


def test_a_budget_is_kept_and_the_rarest_words_are_read(codes):
    matcher, all_codes = codes
    small = Candidates(matcher.bits, budget=1)
    for code in all_codes:
        small.add(code)
    assert 7 in small.lexical(all_codes[7], 120)


def test_an_index_is_written_as_a_faiss_file_and_read_again(codes, tmp_path, monkeypatch):
    faiss = pytest.importorskip("faiss")
    matcher, all_codes = codes
    index, file = filled(matcher, all_codes[:100]), tmp_path / "index"
    index.write_index(file)
    own, code = faiss.read_index_binary(str(file)), candidates.summed(all_codes[7], matcher.bits)
    monkeypatch.setattr(candidates, "DIRECT", 10)
    assert (
        own.ntotal == 100
        and own.search(code.view(np.uint8)[None], 8)[1][0].tolist() == index.near(all_codes[7], 8).tolist()
    )
    longer = filled(matcher, all_codes)
    longer.read_index(file)
    assert longer._index.ntotal == 100  # taken from the file; what came later is added by the next search
    wanted = filled(matcher, all_codes).near(all_codes[110], 8).tolist()
    assert longer.near(all_codes[110], 8).tolist() == wanted and longer._index.ntotal == 120
    for other in (filled(matcher, all_codes[:99]), filled(matcher, all_codes[1:110])):
        with pytest.raises(ValueError, match="its 100 codes are not those of"):
            other.read_index(file)
