"""How far C drifts from the sum that it stands for, without adding it up again."""

from __future__ import annotations

import torch

from memoir_fast.memory.drift import Drift
from memoir_fast.memory.symmetric import Symmetric

D, K = 300, 40


def _parts(number: int, seed: int = 0):
    draw = torch.Generator().manual_seed(seed)
    for _ in range(number):
        rows = torch.randperm(D, generator=draw)[:K].sort().values
        yield rows, torch.randn(5, K, generator=draw)


def _of(drift, C):
    """What the vectors see of a matrix (D, D), whose upper triangle counts."""
    return drift.of(Symmetric.of(C))


def _added(C, rows, A, sign=1):
    C[rows[:, None], rows] += sign * (A.T @ A)


def test_what_the_vectors_see_is_how_far_it_is():
    C, exact, drift = torch.zeros(D, D), torch.zeros(D, D, dtype=torch.float64), Drift(D)
    for rows, A in _parts(100):
        _added(C, rows, A), _added(exact, rows, A.double()), drift.add(rows, A, 1)
    assert _of(drift, C) < 1e-6
    for rows, A in list(_parts(100))[:97]:
        _added(C, rows, A, -1), _added(exact, rows, A.double(), -1), drift.add(rows, A, -1)
    true = float((C.double() - exact).norm() / exact.norm())
    assert 1e-7 < true and true / 2 < _of(drift, C) < 2 * true
    for size in (1e-4, 1e-2):
        noise = torch.randn(D, D)
        noise += noise.T.clone()
        assert size / 2 < _of(drift, C + size * exact.norm().float() * noise / noise.norm()) < 2 * size
    drift.begin(Symmetric.of(C))
    assert _of(drift, C) == 0.0
    drift.clear()
    assert _of(drift, torch.zeros(D, D)) == 0.0 and _of(drift, C) > 1
