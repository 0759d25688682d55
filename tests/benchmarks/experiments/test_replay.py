"""Training near facts again with an edit."""

from __future__ import annotations

import torch

from benchmarks.experiments import replay
from benchmarks.library import metrics
from tests.benchmarks.support import ROWS, pair
from tests.support.models import tiny_memoir


def test_replay_trains_near_facts_again_and_counts_them_once():
    model, plain = (tiny_memoir(steps=60, write="preconditioned", edit_lr=6.0) for _ in range(2))
    replay.replayed(model, [], ROWS[0], 2)
    plain.edit(*pair(0))
    assert torch.equal(model.memory.V, plain.memory.V)
    result = replay.replayed(model, ROWS[:1], ROWS[1], 2)
    plain.edit(*pair(1))
    assert (
        result.id == 1
        and len(model.memory) == 2
        and torch.allclose(model.memory.C, plain.memory.C, rtol=1e-4, atol=1e-5)
    )
    mine = model.memory.indices_of(0).long()
    assert not torch.equal(model.memory.V[mine], plain.memory.V[mine])
    assert metrics.token_accuracy(model, [pair(0), pair(1)]) == [1.0, 1.0]
