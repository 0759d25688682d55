"""The product of the active features with copies of the memory's rows, which are made when a route is decided.

A reader keeps such blocks as its snapshot, so later writes to the memory do not change its answer. Training reads the
memory itself, see `masked_matmul`. The kernels are the same; only the place of a mask's rows differs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks
from .dispatch import LIBRARY, kernels_for, product_kernels, unwatched, written

LIBRARY.define("block_matmul(Tensor x, Tensor blocks, Tensor indices, Tensor route, float scale) -> Tensor")
LIBRARY.define(
    "block_matmul_backward(Tensor grad, Tensor blocks, Tensor indices, Tensor route, float scale, SymInt dimension) -> Tensor"
)


def _block_matmul(x: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    return product_kernels(x, indices, route).block_matmul(x, blocks, indices, route, scale)


def _block_matmul_backward(
    grad: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float, dimension: int
) -> Tensor:
    return kernels_for(grad).block_matmul_backward(grad, blocks, indices, route, scale, dimension)


LIBRARY.impl("block_matmul", _block_matmul, "CompositeExplicitAutograd")
LIBRARY.impl("block_matmul_backward", _block_matmul_backward, "CompositeExplicitAutograd")


@torch.library.register_fake("memoir_fast::block_matmul", lib=LIBRARY)
def _(x: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    return x.new_empty(x.shape[0], blocks.shape[2])


@torch.library.register_fake("memoir_fast::block_matmul_backward", lib=LIBRARY)
def _(grad: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float, dimension: int) -> Tensor:
    return grad.new_empty(grad.shape[0], dimension)


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, blocks, indices, route, ctx.scale = inputs
    ctx.dimension = x.shape[1]
    ctx.save_for_backward(blocks, indices, route)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    if not ctx.needs_input_grad[0]:
        return None, None, None, None, None
    function = torch.ops.memoir_fast.block_matmul_backward
    return function(grad, *ctx.saved_tensors, ctx.scale, ctx.dimension), None, None, None, None


torch.library.register_autograd("memoir_fast::block_matmul", _backward, setup_context=_setup_context, lib=LIBRARY)


def _setup_double(ctx: Any, inputs: tuple, output: Tensor) -> None:
    _, blocks, indices, route, ctx.scale, _ = inputs
    ctx.save_for_backward(blocks, indices, route)


def _double_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    # The backward pass is linear in its gradient, so its own gradient is the forward product.
    out = torch.ops.memoir_fast.block_matmul(grad.contiguous(), *ctx.saved_tensors, ctx.scale)
    return out, None, None, None, None, None


torch.library.register_autograd(
    "memoir_fast::block_matmul_backward", _double_backward, setup_context=_setup_double, lib=LIBRARY
)


def block_matmul(x: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    """A snapshot's output for each token: row t is `scale * x[t, indices[route[t]]] @ blocks[route[t]]`.

    With `blocks[r, j] = V[indices[r, j]]` this equals `masked_matmul`. A scale that differs between masks must already
    be in the blocks.

    Args:
        x: (N, D) float32, bfloat16, float16 (or float64).
        blocks: (R, k, d) float32 or bfloat16 (or float64 with x), without grad; copied at each call unless contiguous.
        indices: (R, k) int32 in 0..D-1, without repeats in a row.
        route: (N,) int32 in -1..R-1, each token's mask.
        scale: a number.

    Returns:
        (N, d) of x's dtype, summed in float32. Rows with route -1 are -0.0, so adding them changes no bit. With a
        16-bit x, a GPU rounds float32 blocks to TF32 or finer. Differentiable twice with respect to x.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape, dtype, device or (on the CPU) index range.
    """
    checks.block_product(x, blocks, indices, route, scale)
    function = _block_matmul if unwatched(x, blocks, indices, route) else torch.ops.memoir_fast.block_matmul
    return function(x, blocks, indices, route, float(scale))


@torch.library.custom_op("memoir_fast::block_matmul_", mutates_args=("out",))
def _block_matmul_inplace(out: Tensor, x: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
    product_kernels(x, indices, route).block_matmul_(out, x, blocks, indices, route, scale)


def block_matmul_(out: Tensor, x: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
    """`out[t] += scale * x[t, indices[route[t]]] @ blocks[route[t]]`, for inference; rows with route -1 are not written.

    Args:
        out: (N, d) of x's dtype, without grad.
        x, blocks, indices, route, scale: as for `block_matmul`.

    Raises:
        TypeError, ValueError: as `block_matmul`, or out or x requires grad while gradients are recorded.
    """
    checks.block_product(x, blocks, indices, route, scale)
    checks.accumulator("block_matmul_", out, x, blocks.shape[2])
    if unwatched(out, x, blocks, indices, route):
        product_kernels(x, indices, route).block_matmul_(out, x, blocks, indices, route, float(scale))
        written(out)
    else:
        _block_matmul_inplace(out, x, blocks, indices, route, float(scale))
