"""The index against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from memoir_fast.memory.index import SignatureIndex
from memoir_fast.reading.threshold import overlaps
from tests.support.signatures import random_signatures


def test_index_against_brute_force_with_ties_and_removals():
    stored, queries = random_signatures(60), random_signatures(40, seed=1)
    stored[30:] = stored[:30]  # every signature twice: the earlier edit must win
    index = SignatureIndex(40, 9)
    assert index.nearest(queries)[0].tolist() == [-1] * 40
    index.add(range(0, 120, 2), stored)
    alive = list(range(60))
    for gone in ([0], [5, 40, 59], list(range(10, 30))):
        index.remove([2 * i for i in gone])
        alive = [i for i in alive if i not in gone]
        ids, overlap = index.nearest(queries)
        for q, query in enumerate(queries):
            shared = overlaps(stored[alive], query, 9)
            assert ids[q] == 2 * alive[int(shared.argmax())] and overlap[q] == pytest.approx(shared.max())
    assert index.ids == [2 * i for i in alive] and len(index) == len(alive)
    assert (index.signature(2 * alive[3]) == stored[alive[3]]).all()
    for ids, signatures, says in (
        ([500], stored[:2], "differ in number"),
        ([2 * alive[0]], stored[:1], "must ascend"),
        ([901, 900], stored[:2], "must ascend"),
        ([500], stored[:1] * 0, "exactly 9 ones"),
        ([500], stored[:1, :4], "must be uint8 of shape"),
    ):
        with pytest.raises(ValueError, match=says):
            index.add(ids, signatures)
    with pytest.raises(ValueError, match="not stored"):
        index.remove([501])
    index.add([0, 41], stored[[0, 20]])  # they come back, in their places
    assert index.ids == sorted([0, 41] + [2 * i for i in alive]) and index.nearest(stored[:1])[0] == [0]
    assert index.within(stored[3], 1.0) == [6, 66] and index.subset([66, 41, 7]).ids == [41, 66]


@pytest.mark.parametrize("dimension", [40, 61, 64])
def test_ids_that_go_and_come_back_in_any_order_are_where_they_belong(dimension, monkeypatch):
    """Against a dictionary; the search by slices too, whose rows move along."""
    rng = np.random.default_rng(dimension)
    masks = np.zeros((80, dimension), np.uint8)
    np.put_along_axis(masks, rng.random(masks.shape).argsort(1)[:, :9], 1, axis=1)
    codes = np.packbits(masks, axis=1, bitorder="little")
    index, stored = SignatureIndex(dimension, 9), dict[int, np.ndarray]()
    index.slice_width = 4
    for _ in range(200):
        free = [i for i in range(80) if i not in stored]
        some = sorted(rng.choice(free, min(len(free), int(rng.integers(1, 9))), replace=False).tolist())
        if rng.random() < 0.5 and len(stored) > 8:
            some = rng.choice(list(stored), int(rng.integers(1, 9)), replace=False).tolist()
            index.remove(some)
            for i in some:
                del stored[i]
        else:
            index.add(some, codes[some])
            stored |= {i: codes[i] for i in some}
        assert index.ids == sorted(stored) and len(index) == len(stored)
        assert np.array_equal(index.signatures(), np.array([stored[i] for i in sorted(stored)]))
        if stored:
            want = index.nearest(codes[:5], exhaustive=True)
            assert all(map(np.array_equal, index.nearest(codes[:5], exhaustive=False), want))
    stray = codes[:1].copy()
    stray[0, -1] |= 128
    one = np.flatnonzero(masks[0])[0]
    stray[0, one // 8] ^= 1 << one % 8
    if dimension % 8:
        with pytest.raises(ValueError, match="exactly 9 ones"):
            index.add([900], stray)
