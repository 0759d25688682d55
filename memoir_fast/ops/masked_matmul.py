"""The product of the active features with the memory's rows: what an edit adds to the projection's output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks
from .dispatch import LIBRARY, kernels_for, product_kernels, unwatched, written

LIBRARY.define("masked_matmul(Tensor x, Tensor V, Tensor indices, Tensor route, float scale) -> Tensor")
LIBRARY.define("masked_matmul_backward(Tensor grad, Tensor V, Tensor indices, Tensor route, float scale) -> Tensor")


def _masked_matmul(x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    return product_kernels(x, indices, route).masked_matmul(x, V, indices, route, scale)


def _masked_matmul_backward(grad: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    return kernels_for(grad).masked_matmul_backward(grad, V, indices, route, scale, V.shape[0])


LIBRARY.impl("masked_matmul", _masked_matmul, "CompositeExplicitAutograd")
LIBRARY.impl("masked_matmul_backward", _masked_matmul_backward, "CompositeExplicitAutograd")


@torch.library.register_fake("memoir_fast::masked_matmul", lib=LIBRARY)
def _(x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    return x.new_empty(x.shape[0], V.shape[1])


@torch.library.register_fake("memoir_fast::masked_matmul_backward", lib=LIBRARY)
def _(grad: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    return grad.new_empty(grad.shape[0], V.shape[0])


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    _, V, indices, route, ctx.scale = inputs
    ctx.save_for_backward(V, indices, route)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    if not ctx.needs_input_grad[0]:
        return None, None, None, None, None
    V, indices, route = ctx.saved_tensors
    return torch.ops.memoir_fast.masked_matmul_backward(grad, V, indices, route, ctx.scale), None, None, None, None


torch.library.register_autograd("memoir_fast::masked_matmul", _backward, setup_context=_setup_context, lib=LIBRARY)


def _double_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    # The backward pass is linear in its gradient, so its own gradient is the forward product.
    V, indices, route = ctx.saved_tensors
    out = torch.ops.memoir_fast.masked_matmul(grad.contiguous(), V, indices, route, ctx.scale)
    return out, None, None, None, None


torch.library.register_autograd(
    "memoir_fast::masked_matmul_backward", _double_backward, setup_context=_setup_context, lib=LIBRARY
)


def masked_matmul(x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    """The memory's output for each token: row t is `scale * x[t, idx] @ V[idx]` with `idx = indices[route[t]]`.

    Args:
        x: (N, D) float32, bfloat16, float16 (or float64).
        V: (D, d) float32 or bfloat16 (or float64 with x), without grad.
        indices: (R, k) int32 in 0..D-1, without repeats in a row.
        route: (N,) int32 in -1..R-1, each token's mask.
        scale: a number.

    Returns:
        (N, d) of x's dtype, summed in float32. Rows with route -1 are -0.0, so adding them changes no bit. With a
        16-bit x, a GPU rounds a float32 V to TF32 or finer. Differentiable twice with respect to x.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape, dtype, device or (on the CPU) index range.
    """
    checks.product(x, V, indices, route, scale)
    function = _masked_matmul if unwatched(x, V, indices, route) else torch.ops.memoir_fast.masked_matmul
    return function(x, V, indices, route, float(scale))


@torch.library.custom_op("memoir_fast::masked_matmul_", mutates_args=("out",))
def _masked_matmul_inplace(out: Tensor, x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
    product_kernels(x, indices, route).masked_matmul_(out, x, V, indices, route, scale)


def masked_matmul_(out: Tensor, x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
    """`out[t] += scale * x[t, idx] @ V[idx]` in place, for inference; rows with route -1 are not written.

    Args:
        out: (N, d) of x's dtype, without grad.
        x, V, indices, route, scale: as for `masked_matmul`.

    Raises:
        TypeError, ValueError: as `masked_matmul`, or out or x requires grad while gradients are recorded.
    """
    checks.product(x, V, indices, route, scale)
    checks.accumulator("masked_matmul_", out, x, V.shape[1])
    if unwatched(out, x, V, indices, route):
        product_kernels(x, indices, route).masked_matmul_(out, x, V, indices, route, float(scale))
        written(out)
    else:
        _masked_matmul_inplace(out, x, V, indices, route, float(scale))
