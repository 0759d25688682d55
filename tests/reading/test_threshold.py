"""Thresholds: they follow edits and keep the promised rate."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from memoir_fast.memory.index import SignatureIndex
from memoir_fast.reading.threshold import Threshold, overlaps
from tests.support.models import tiny_memoir
from tests.support.signatures import random_signatures


def test_threshold_follows_edits_and_keeps_the_rate():
    unrelated, edits = random_signatures(200, seed=2), random_signatures(300, seed=3)
    index = SignatureIndex(40, 9)
    threshold = Threshold(index, None, unrelated, 0.05)
    assert threshold.median == Threshold.FLOOR and threshold.of([-1])[0] > 1 and len(threshold.of([])) == 0
    for number, signature in enumerate(edits):
        index.add([2 * number], signature[None])
    table = np.array([overlaps(edits, row, 9) for row in unrelated])
    assert np.array_equal(threshold.largest, table.max(1))
    ids = [0, 2, 10, 598]
    slow = [max(0.4, min(1, table[:, i // 2].max() + threshold.margin + 1 / 9)) for i in ids]
    assert np.allclose(threshold.of(ids), slow) and threshold.of([-1, 0])[0] > 1
    assert threshold.false_activation_rate() <= 0.05
    again = Threshold(index, None, unrelated, 0.3)
    assert again.margin <= threshold.margin and np.array_equal(again.largest, threshold.largest)
    again.calibrate(0.05)
    assert again.margin == threshold.margin and np.array_equal(again.of(ids), threshold.of(ids))
    assert Threshold(index, 0.6, unrelated, 0.05).of([3, 4]).tolist() == [0.6, 0.6]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), prompts=st.integers(5, 40), edits=st.integers(1, 30), rate=st.floats(0.0, 0.5))
def test_a_further_prompt_reads_no_oftener_than_the_rate(seed, prompts, edits, rate):
    """Each prompt in turn is the further one: over all of them, the promise is exact."""
    numbers = np.random.default_rng(seed)
    unrelated = random_signatures(prompts, seed=seed + 1)
    # Some edits share a wording with some prompts, so that the edits' own thresholds differ.
    stored = np.where(numbers.random(edits)[:, None] < 0.5, unrelated[numbers.integers(prompts, size=edits)],
                      random_signatures(edits, seed=seed + 2))  # fmt: skip
    read = 0
    for further in range(prompts):
        index = SignatureIndex(40, 9)
        index.add(range(edits), stored)
        threshold = Threshold(index, None, np.delete(unrelated, further, 0), rate)
        threshold.FLOOR = 0.0
        near = overlaps(stored, unrelated[further], 9)
        read += near.max() >= threshold.of([near.argmax()])[0] and near.max() < 1
    assert read <= max(1, int(rate * prompts))


def test_calibrate_switches_from_a_fixed_threshold():
    model = tiny_memoir(threshold=0.99)
    model.edit("w100 w101", "w150")
    assert model.threshold.median == 0.99
    assert model.calibrate(0.02) == model.threshold.median < 0.99
    assert model.config.threshold is None and model.config.false_activation_rate == 0.02


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 30), data=st.data())
def test_following_changes_equals_counting_anew(seed, count, data):
    """Edits come, go and come back in any order: the thresholds are those of a fresh count."""
    unrelated, edits = random_signatures(25, seed=seed), random_signatures(count, seed=seed + 1)
    edits[::3] = unrelated[np.arange(len(edits[::3])) % 25]  # ties with the prompts themselves
    index = SignatureIndex(40, 9)
    threshold = Threshold(index, None, unrelated, 0.1)
    for _ in range(data.draw(st.integers(1, 25))):
        edit = data.draw(st.integers(0, count - 1))
        if edit in index:
            index.remove([edit])
        else:
            index.add([edit], edits[edit][None])
        fresh = Threshold(index, None, unrelated, 0.1)
        assert np.array_equal(threshold.largest, fresh.largest) and threshold.margin == fresh.margin
        assert np.array_equal(threshold.of(index.ids), fresh.of(index.ids))
