"""How far C drifts from the sum that it stands for, without adding it up again."""

from __future__ import annotations

import pytest
import torch

from memoir_fast.memory.drift import Drift

D, K = 300, 40


def _parts(number: int, seed: int = 0):
    draw = torch.Generator().manual_seed(seed)
    for _ in range(number):
        rows = torch.randperm(D, generator=draw)[:K].sort().values
        yield rows, torch.randn(5, K, generator=draw)


def _added(C, rows, A, sign=1):
    C[rows[:, None], rows] += sign * (A.T @ A)


def test_what_the_vectors_see_is_how_far_it_is():
    C, exact, drift = torch.zeros(D, D), torch.zeros(D, D, dtype=torch.float64), Drift(D)
    for rows, A in _parts(100):
        _added(C, rows, A), _added(exact, rows, A.double()), drift.add(rows, A, 1)
    assert drift.of(C) < 1e-6
    for rows, A in list(_parts(100))[:97]:
        _added(C, rows, A, -1), _added(exact, rows, A.double(), -1), drift.add(rows, A, -1)
    true = float((C.double() - exact).norm() / exact.norm())
    assert 1e-7 < true and true / 2 < drift.of(C) < 2 * true
    for size in (1e-4, 1e-2):
        off = C + size * exact.norm().float() * torch.nn.functional.normalize(torch.randn(D, D).flatten(), dim=0).view(
            D, D
        )
        assert size / 2 < drift.of(off) < 2 * size
    assert drift.of(C.T.contiguous()) == pytest.approx(drift.of(C), rel=0.5)
    drift.begin(C)
    assert drift.of(C) == 0.0
    drift.clear()
    assert drift.of(torch.zeros(D, D)) == 0.0 and drift.of(C) > 1
