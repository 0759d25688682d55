"""The masked sparse product on the GPU: `scale * x[t, idx] @ V[idx]`, idx the mask of row t's route.

Few rows (decode) are bound by reading V: one program takes one row and a strip of columns. Many rows (prefill) are
grouped by route, so that a tile shares its mask and goes through `tl.dot`. Grouping stays on the device and all shapes
follow from the arguments' shapes: nothing waits for the host, and a step can be captured in a CUDA graph.

The same kernels multiply with blocks (R, k, d), a copy of each mask's rows: row j of mask r is then row r * k + j of the
blocks, taken as (R * k, d). The launchers take either in place of V and tell them by their dimensions.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

DECODE_ROWS = 16  # up to so many rows go through the decode kernel

# What the kernels may be compiled with; the first is used unless a size asks for another, see the `_config` functions.
DECODE_CONFIGS = (
    {"BLOCK_K": 64, "BLOCK_N": 32, "num_warps": 4, "num_stages": 4},
    {"BLOCK_K": 32, "BLOCK_N": 64, "num_warps": 4, "num_stages": 4},
    {"BLOCK_K": 64, "BLOCK_N": 16, "num_warps": 4, "num_stages": 3},
)
PREFILL_CONFIGS = (
    {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 16, "num_warps": 8, "num_stages": 2},
    {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 8, "num_stages": 2},
    {"BLOCK_M": 16, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 2},
)


@triton.jit
def _row_of(line, k, j, idx, BLOCKS: tl.constexpr):
    """Which row of V, or of the blocks, is row j of a mask (idx its index), in 64 bits."""
    if BLOCKS:
        at = line.to(tl.int64) * k + j
    else:
        at = idx.to(tl.int64)
    return at


@triton.jit
def _decode_kernel(
    out, x, V, indices, route, scale, d, k, out_stride, x_stride, v_stride,
    BLOCKS: tl.constexpr, ADD: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = column < d
    line = tl.load(route + row)
    place = out + row * out_stride + column
    if line >= 0:
        sums = tl.zeros((BLOCK_K, BLOCK_N), tl.float32)
        mask = indices + line.to(tl.int64) * k
        for start in range(0, k, BLOCK_K):
            j = start + tl.arange(0, BLOCK_K)
            idx = tl.load(mask + j, mask=j < k, other=0)
            a = tl.load(x + row * x_stride + idx, mask=j < k, other=0.0).to(tl.float32)
            at = _row_of(line, k, j, idx, BLOCKS)
            v = tl.load(V + at[:, None] * v_stride + column[None, :],
                        mask=(j < k)[:, None] & inside[None, :], other=0.0)  # fmt: skip
            sums += a[:, None] * v.to(tl.float32)
        value = (tl.sum(sums, axis=0) * scale).to(out.dtype.element_ty)
        if ADD:
            value = (tl.load(place, mask=inside, other=0.0).to(tl.float32) + value.to(tl.float32)).to(
                out.dtype.element_ty
            )
        tl.store(place, value, mask=inside)
    elif not ADD:
        tl.store(place, tl.full((BLOCK_N,), -0.0, out.dtype.element_ty), mask=inside)


@triton.jit
def _tile_rows(order, starts, tile_ends, lines, LINES: tl.constexpr, BLOCK_M: tl.constexpr):
    """The mask of this program's tile (`lines` when there is no such tile), its rows, and which of them are real."""
    tile = tl.program_id(0)
    each = tl.arange(0, LINES)
    line = tl.sum((tl.load(tile_ends + each, mask=each < lines, other=0x7FFFFFFF) <= tile).to(tl.int32))
    real = line < lines
    before = tl.load(tile_ends + line - 1, mask=real & (line > 0), other=0)
    place = tl.load(starts + line, mask=real, other=0) + (tile - before) * BLOCK_M + tl.arange(0, BLOCK_M)
    live = place < tl.load(starts + line + 1, mask=real, other=0)
    return line, tl.load(order + place, mask=live, other=0), live


@triton.jit
def _prefill_kernel(
    out, x, V, indices, order, starts, tile_ends, lines, scale, d, k, out_stride, x_stride, v_stride,
    BLOCKS: tl.constexpr, ADD: tl.constexpr, HALF: tl.constexpr, LINES: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    line, row, live = _tile_rows(order, starts, tile_ends, lines, LINES, BLOCK_M)
    if line < lines:
        column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
        mask = indices + line.to(tl.int64) * k
        sums = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for start in range(0, k, BLOCK_K):
            j = start + tl.arange(0, BLOCK_K)
            idx = tl.load(mask + j, mask=j < k, other=0)
            a = tl.load(x + row[:, None] * x_stride + idx[None, :], mask=live[:, None] & (j < k)[None, :], other=0.0)
            at = _row_of(line, k, j, idx, BLOCKS)
            v = tl.load(V + at[:, None] * v_stride + column[None, :],
                        mask=(j < k)[:, None] & (column < d)[None, :], other=0.0)  # fmt: skip
            if HALF:
                sums = tl.dot(a, v, sums)
            else:
                sums = tl.dot(a.to(tl.float32), v.to(tl.float32), sums, input_precision="ieee")
        value = (sums * scale).to(out.dtype.element_ty)
        place = out + row[:, None] * out_stride + column[None, :]
        inside = live[:, None] & (column < d)[None, :]
        if ADD:
            value = (tl.load(place, mask=inside, other=0.0).to(tl.float32) + value.to(tl.float32)).to(
                out.dtype.element_ty
            )
        tl.store(place, value, mask=inside)


@triton.jit
def _backward_kernel(
    out, grad, V, indices, order, starts, tile_ends, lines, scale, d, k, out_stride, grad_stride, v_stride,
    BLOCKS: tl.constexpr, HALF: tl.constexpr, LINES: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    line, row, live = _tile_rows(order, starts, tile_ends, lines, LINES, BLOCK_M)
    if line < lines:
        j = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
        idx = tl.load(indices + line.to(tl.int64) * k + j, mask=j < k, other=0)
        at = _row_of(line, k, j, idx, BLOCKS)
        sums = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for start in range(0, d, BLOCK_K):
            column = start + tl.arange(0, BLOCK_K)
            g = tl.load(grad + row[:, None] * grad_stride + column[None, :],
                        mask=live[:, None] & (column < d)[None, :], other=0.0)  # fmt: skip
            v = tl.load(V + at[None, :] * v_stride + column[:, None],
                        mask=(column < d)[:, None] & (j < k)[None, :], other=0.0)  # fmt: skip
            if HALF:
                sums = tl.dot(g, v, sums)
            else:
                sums = tl.dot(g.to(tl.float32), v.to(tl.float32), sums, input_precision="ieee")
        place = out + row[:, None] * out_stride + idx[None, :]
        tl.store(place, (sums * scale).to(out.dtype.element_ty), mask=live[:, None] & (j < k)[None, :])


# ---- launchers ---------------------------------------------------------------------------------------------------


def decode_config(d: int) -> dict[str, int]:
    """How `_decode_kernel` is compiled: narrow strips for small d, so that there are programs enough to fill the chip."""
    return DECODE_CONFIGS[0] if d >= 2048 else DECODE_CONFIGS[2]


def prefill_config(rows: int, masks: int) -> dict[str, int]:
    """How the two others are: tiles as high as the rows that share a mask, on average."""
    share = rows // max(masks, 1)
    return PREFILL_CONFIGS[0 if share >= 64 else 1 if share >= 32 else 2]


def _rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()


def _weights(V: Tensor) -> tuple[Tensor, int, bool]:
    """V (D, d) with contiguous rows, or blocks (R, k, d) contiguous; how far its rows are apart; whether it is blocks."""
    if V.dim() == 3:
        return V.contiguous(), V.shape[2], True  # torch may report any stride where k is 1
    V = _rows(V)
    return V, V.stride(0), False


def _half(a: Tensor, b: Tensor) -> bool:
    """Whether the tensor cores take both as they are. Triton's interpreter multiplies the bits of bfloat16 as integers."""
    return a.dtype == b.dtype == torch.bfloat16 and a.is_cuda


def _grouped(route: Tensor, masks: int, block: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows sorted by mask, where each mask's rows begin (masks + 1), and the tiles up to each mask's end (masks)."""
    values, order = torch.sort(route, stable=True)
    lines = torch.arange(masks + 1, dtype=route.dtype, device=route.device)
    starts = torch.searchsorted(values, lines)
    tiles = (starts.diff() + (block - 1)).div(block, rounding_mode="floor")
    return order, starts, tiles.cumsum(0)


def masked_matmul(x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    """(N, d) of x's dtype; rows with route -1 are -0.0.

    Args:
        x: (N, D) float32, bfloat16 or float16; V: (D, d), or blocks (R, k, d), float32 or bfloat16.
        indices: (R, k) int32; route: (N,) int32. Neither is checked.
    """
    if len(x) <= DECODE_ROWS and len(indices):
        out = torch.empty(len(x), V.shape[-1], dtype=x.dtype, device=x.device)
    else:
        out = torch.full((len(x), V.shape[-1]), -0.0, dtype=x.dtype, device=x.device)
    _launch(out, x, V, indices, route, scale, add=False)
    return out


def masked_matmul_(out: Tensor, x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
    """`out[t] += ...` for rows with a route; the others are not written. out (N, d) of x's dtype."""
    rows = _rows(out)
    _launch(rows, x, V, indices, route, scale, add=True)
    if rows is not out:
        out.copy_(rows)


def _launch(out: Tensor, x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float, add: bool) -> None:
    rows, (masks, k), d = len(x), indices.shape, V.shape[-1]
    if rows == 0 or masks == 0 or d == 0:
        return
    V, v_stride, blocks = _weights(V)
    x, indices, route = _rows(x), indices.contiguous(), route.contiguous()
    strides = (out.stride(0), x.stride(0), v_stride)
    if rows <= DECODE_ROWS:
        config = decode_config(d)
        grid = (rows, triton.cdiv(d, config["BLOCK_N"]))
        _decode_kernel[grid](out, x, V, indices, route, scale, d, k, *strides, BLOCKS=blocks, ADD=add, **config)
        return
    config = prefill_config(rows, masks)
    grid = (rows // config["BLOCK_M"] + masks, triton.cdiv(d, config["BLOCK_N"]))
    groups = _grouped(route, masks, config["BLOCK_M"])
    _prefill_kernel[grid](out, x, V, indices, *groups, masks, scale, d, k, *strides, BLOCKS=blocks, ADD=add, HALF=_half(x, V),
                          LINES=triton.next_power_of_2(masks), **config)  # fmt: skip


def masked_matmul_backward(
    grad: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float, dimension: int
) -> Tensor:
    """(N, dimension) gradient for x, of grad's dtype: zero outside each row's mask and in rows with route -1. grad (N, d)."""
    out = torch.zeros(len(grad), dimension, dtype=grad.dtype, device=grad.device)
    rows, (masks, k), d = len(grad), indices.shape, V.shape[-1]
    if rows == 0 or masks == 0 or k == 0:
        return out
    V, v_stride, blocks = _weights(V)
    grad, indices = _rows(grad), indices.contiguous()
    config = prefill_config(rows, masks)
    grid = (rows // config["BLOCK_M"] + masks, triton.cdiv(k, config["BLOCK_N"]))
    groups = _grouped(route.contiguous(), masks, config["BLOCK_M"])
    _backward_kernel[grid](out, grad, V, indices, *groups, masks, scale, d, k, out.stride(0), grad.stride(0), v_stride,
                           BLOCKS=blocks, HALF=_half(grad, V), LINES=triton.next_power_of_2(masks), **config)  # fmt: skip
    return out
