"""What the operations' tests share: backends, cases, dense oracles and layouts."""

from __future__ import annotations

import os

import torch

LEVELS = ["scalar", "avx2", "avx512"]
# kernels/test_triton_interpret.py runs tests/ops once more in a process of its own, where Triton interprets its kernels.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BACKENDS = ["triton"] if INTERPRETED else ["reference", *(f"cpp-{level}" for level in LEVELS)]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3, torch.float64: 1e-12}


def tophash_case(dimension, seed=0, batch=3, dtype=torch.float32):
    """features, background, permutation."""
    g = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, dimension, generator=g).to(dtype)
    return features, torch.randn(dimension, generator=g), torch.randperm(dimension, generator=g).int()


def product_case(rows, dimension=50, d=33, masks=3, k=11, dtype=torch.float32, v_dtype=torch.float32, seed=0):
    """x, V, indices, route."""
    g = torch.Generator().manual_seed(seed)
    x, V = torch.randn(rows, dimension, generator=g).to(dtype), torch.randn(dimension, d, generator=g).to(v_dtype)
    indices = torch.stack([torch.randperm(dimension, generator=g)[:k].sort().values for _ in range(masks)]).int()
    return x, V, indices, torch.randint(-1, masks, (rows,), generator=g).int()


def dense_product(x, V, indices, route, scale):
    """(N, d) float64, through a mask over the whole input."""
    mask = torch.zeros(len(indices) + 1, x.shape[1], dtype=torch.float64)
    for line, idx in enumerate(indices):
        mask[line, idx.long()] = 1
    return scale * (mask[route.long()] * x.double()) @ V.double()  # route -1 takes the last row: no ones


def strided(tensor: torch.Tensor, kind: int) -> torch.Tensor:
    """The same values in another layout: contiguous, padded rows, every other row, or transposed memory."""
    if kind == 0 or tensor.dim() < 2:
        return tensor.contiguous()
    *lead, rows, columns = tensor.shape
    if kind == 1:
        whole = torch.full((*lead, rows, columns + 3), float("nan") if tensor.is_floating_point() else 0).to(
            tensor.dtype
        )
        view = whole[..., 1 : columns + 1]
    elif kind == 2:
        view = torch.zeros(*lead, 2 * rows, columns, dtype=tensor.dtype)[..., ::2, :]
    else:
        view = torch.zeros(*lead, columns, rows, dtype=tensor.dtype).transpose(-1, -2)
    return view.copy_(tensor)
