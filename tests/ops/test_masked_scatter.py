"""The masked scatter on every backend and SIMD level against index_add in double."""

from __future__ import annotations

import pytest
import torch

from memoir_fast import ops


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n", [1, 6, 130])
def test_masked_scatter(backend, n, dtype):
    g = torch.Generator().manual_seed(n)
    V, idx = torch.randn(300, 37, generator=g), torch.randperm(300, generator=g)[:150].int()
    A, G = torch.randn(n, 150, generator=g).to(dtype), torch.randn(n, 37, generator=g).to(dtype)
    update = A.double().T @ G.double()
    want = V.double().index_add(0, idx.long(), 0.3 * update)
    squared = ops.masked_scatter_(V, idx, A, G, 0.3)
    assert squared.dtype == torch.float32 and squared.shape == ()
    assert torch.allclose(V.double(), want, atol=1e-4)
    assert float(squared) == pytest.approx(float(update.square().sum()), rel=1e-4)
    half = torch.zeros(300, 37, dtype=torch.bfloat16)
    ops.masked_scatter_(half, idx, A, G, 0.3)
    assert torch.allclose(
        half.double(), torch.zeros(300, 37).double().index_add(0, idx.long(), 0.3 * update), rtol=1e-2, atol=1e-2
    )
