"""The prefill of one mask, which is plain torch: on a GPU it serves, so here it is called by itself."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")
from memoir_fast_kernels.masked_matmul import _one_mask

from memoir_fast.ops import reference

D, k, d, N = 60, 20, 12, 9
ROUTE = torch.tensor([0, -1, 0, 0, -1, 0, 0, 0, 0], dtype=torch.int32)


def _case(dtype, v_dtype):
    g = torch.Generator().manual_seed(0)
    x, V = torch.randn(N, D, generator=g).to(dtype), torch.randn(D, d, generator=g).to(v_dtype)
    return x, V, torch.randperm(D, generator=g)[:k].sort().values.int()


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize(
    ("dtype", "v_dtype"),
    [(torch.float32, torch.float32), (torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32),
     (torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32), (torch.float16, torch.bfloat16)],
)  # fmt: skip
def test_it_is_the_product_and_leaves_rows_without_a_route_alone(dtype, v_dtype, add, scale):
    x, V, idx = _case(dtype, v_dtype)
    before = (
        torch.randn(N, d, generator=torch.Generator().manual_seed(1)).to(dtype)
        if add
        else torch.full((N, d), -0.0, dtype=dtype)
    )
    out = before.clone()
    _one_mask(out, x, V[idx.long()], idx, ROUTE, scale, add)
    want = reference.masked_matmul(x.double(), V.double(), idx[None], ROUTE, scale) + (before.double() if add else 0)
    rounding = torch.finfo(dtype).eps * float(want.abs().max()) * 2
    assert torch.allclose(out.double(), want, rtol=0, atol=rounding)
    silent = ROUTE < 0
    assert torch.equal(out[silent].view(torch.uint8), before[silent].view(torch.uint8))


def test_float32_weights_beside_16_bits_keep_more_than_16():
    """Twenty times a third: rounded to bfloat16 before the sum it would be 6.6875, and 6.65625 is nearest to what it is."""
    x, V = torch.ones(N, D, dtype=torch.bfloat16), torch.full((k, d), 1 / 3)
    out = torch.zeros(N, d, dtype=torch.bfloat16)
    _one_mask(out, x, V, torch.arange(k, dtype=torch.int32), ROUTE, 1.0, False)
    assert float(out[0, 0]) == 6.65625
