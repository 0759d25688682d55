"""The masked gradient scatter, which writes a finished edit into the memory's rows."""

from __future__ import annotations

import torch
from torch import Tensor

from . import checks, cpu
from .dispatch import kernels_for, unwatched, written


@torch.library.custom_op("memoir_fast::masked_scatter_", mutates_args=("V",))
def _masked_scatter(V: Tensor, idx: Tensor, A: Tensor, G: Tensor, scale: float) -> Tensor:
    return _scatter(V, idx, A, G, scale)


def _scatter(V: Tensor, idx: Tensor, A: Tensor, G: Tensor, scale: float) -> Tensor:
    kernels = kernels_for(V)
    if kernels is not cpu:
        checks.in_range("idx", idx, 0, len(V))
        checks.unique("idx", idx)
    return kernels.masked_scatter_(V, idx, A, G, scale)


@_masked_scatter.register_fake
def _(V: Tensor, idx: Tensor, A: Tensor, G: Tensor, scale: float) -> Tensor:
    return V.new_empty((), dtype=torch.float32)


def masked_scatter_(V: Tensor, idx: Tensor, A: Tensor, G: Tensor, scale: float) -> Tensor:
    """The masked gradient scatter: `V[idx] += scale * A^T G`, in place.

    Args:
        V: (D, d) float32 or bfloat16.
        idx: (k,) int32 in 0..D-1, without repeats.
        A: (n, k) float32 or bfloat16.
        G: (n, d) float32 or bfloat16.
        scale: a number.

    Returns:
        `||A^T G||_F^2`, without the scale, a float32 scalar tensor.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape, dtype or device, or (on the CPU) an index is out
            of range or repeated.
    """
    checks.scatter(V, idx, A, G, scale)
    if not unwatched(V, idx, A, G):
        return _masked_scatter(V, idx, A, G, float(scale))
    squared = _scatter(V, idx, A, G, float(scale))
    written(V)
    return squared
