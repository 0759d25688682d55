"""Looking signatures up: every SIMD level and FAISS against numpy, two-stage search, growth and removal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoir_fast.memory.index import SignatureIndex
from memoir_fast.ops import cpu as _cpu

LEVELS = ["scalar", "avx2", "avx512"]


@pytest.fixture(params=LEVELS)
def level(request):
    if request.param not in _cpu._C.levels():
        pytest.skip(f"this CPU has no {request.param}")
    before = _cpu.level()
    _cpu._C.set_level(request.param)
    yield
    _cpu._C.set_level(before)


def _brute(queries, codes):
    distances = np.bitwise_count(queries[:, None] ^ codes[None]).sum(2, dtype=np.int64)
    return distances.argmin(1), distances.min(1)  # argmin takes the first of equals


@pytest.mark.parametrize("width", [1, 7, 8, 31, 32, 55, 192, 256, 300, 1792])
def test_distances(level, width):
    rng = np.random.default_rng(width)
    codes, queries = (
        rng.integers(0, 256, (700, width), dtype=np.uint8),
        rng.integers(0, 256, (5, width), dtype=np.uint8),
    )
    codes[350:] = codes[:350]  # ties: the lower row
    rows, distances = _cpu.hamming_nearest(queries, codes)
    want = _brute(queries, codes)
    assert (rows == want[0]).all() and (distances == want[1]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 600), st.integers(1, 40), st.integers(0, 2**31))
def test_nearest_is_the_first_smallest(rows, width, seed):
    rng = np.random.default_rng(seed)
    codes, queries = rng.integers(0, 4, (rows, width), dtype=np.uint8), rng.integers(0, 4, (3, width), dtype=np.uint8)
    found, want = _cpu.hamming_nearest(queries, codes), _brute(queries, codes)
    assert (found[0] == want[0]).all() and (found[1] == want[1]).all()


def _masks(count, dimension, k, seed=0):
    rng = np.random.default_rng(seed)
    keys = rng.random((count, dimension))
    bits = np.zeros((count, dimension), np.uint8)
    np.put_along_axis(bits, keys.argpartition(k, axis=1)[:, :k], 1, axis=1)
    return np.packbits(bits, axis=1, bitorder="little")


def test_two_stage_search_finds_what_the_exhaustive_one_finds(level, monkeypatch):
    monkeypatch.setattr(SignatureIndex, "exhaustive", 1000)
    dimension, k = 4096, 1170
    codes = _masks(3000, dimension, k)
    index = SignatureIndex(dimension, k)
    index.add(range(2500), codes[:2500])
    rng = np.random.default_rng(1)
    bits = np.unpackbits(codes[rng.integers(0, 2500, 40)], axis=1, bitorder="little")
    for row in bits:  # half of the ones moved elsewhere
        ones, zeros = np.flatnonzero(row), np.flatnonzero(row == 0)
        row[rng.choice(ones, k // 2, replace=False)] = 0
        row[rng.choice(zeros, k // 2, replace=False)] = 1
    queries = np.packbits(bits, axis=1, bitorder="little")
    exact, overlaps = index.nearest(queries, exhaustive=True)
    found, found_overlaps = index.nearest(queries)
    assert (found == exact).all() and (found_overlaps == overlaps).all()
    index.add(range(2500, 3000), codes[2500:])  # the slices follow additions and removals
    index.remove(range(0, 1500))
    assert index.nearest(codes[2600:2605])[0].tolist() == [2600, 2601, 2602, 2603, 2604]
    assert index.nearest(codes[3:4])[1][0] < 1
    assert (index.signature(2999) == codes[2999]).all()


def test_faiss_serves_without_the_extension(monkeypatch):
    codes = _masks(50, 200, 57)
    index = SignatureIndex(200, 57)
    index.add(range(50), codes)
    want = index.nearest(codes[::7])
    monkeypatch.setattr(_cpu, "_C", None)
    got = index.nearest(codes[::7])
    assert (got[0] == want[0]).all() and (got[1] == want[1]).all()


def test_adding_costs_no_pass_over_the_index():
    index = SignatureIndex(64, 10)
    code = _masks(1, 64, 10)
    moves = 0
    for i in range(5000):
        before = index._codes._data
        index.add([i], code)
        moves += index._codes._data is not before
    assert moves < 12 and len(index) == 5000
