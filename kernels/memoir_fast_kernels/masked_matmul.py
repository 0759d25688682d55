"""The masked sparse product on the GPU: `scale * x[t, idx] @ V[idx]`, where idx is the mask of row t's route.

With few rows (decode) reading V is the bottleneck. A program takes one row, a strip of columns and a part of the mask;
a second kernel adds up the parts in a fixed order. Many rows (prefill) are grouped by route and their active features
gathered first. So a tile shares one mask, both of its factors are read in whole lines, and `tl.dot` multiplies them.
Grouping happens on the device and all shapes follow from the arguments' shapes, so nothing waits for the host and a
step can be captured in a CUDA graph.

The same kernels multiply with blocks (R, k, d), copies of each mask's rows. Row j of mask r is then row r * k + j of
the blocks, seen as (R * k, d). The launchers accept blocks in place of V and distinguish the two by their number of
dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

DECODE_ROWS = 16  # the most rows that go through the decode kernel

# The configurations that kernels may be compiled with; the `_config` functions choose one.
DECODE_CONFIGS = (
    {"BLOCK_K": 64, "BLOCK_N": 64, "STAGES": 3, "num_warps": 4},
    {"BLOCK_K": 64, "BLOCK_N": 32, "STAGES": 4, "num_warps": 4},
    {"BLOCK_K": 32, "BLOCK_N": 64, "STAGES": 4, "num_warps": 4},
)
# By the mode of `_product`. Float32 throughout ("ieee") needs many registers, so its tiles are smaller.
PREFILL_CONFIGS = {
    "half": (
        {"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 3},
        {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 4},
        {"BLOCK_M": 16, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 4},
    ),
    "tf32": (
        {"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 3},
        {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 4},
        {"BLOCK_M": 16, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 4},
    ),
    "ieee": (
        {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 16, "num_warps": 8, "num_stages": 2},
        {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 8, "num_stages": 2},
        {"BLOCK_M": 16, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 2},
    ),
}
BACKWARD_CONFIGS = (  # small tiles, because results are scattered to single addresses
    {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 8, "num_stages": 3},
    {"BLOCK_M": 16, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 3},
)
SUM_CONFIG = {"BLOCK_N": 256, "num_warps": 4}
GATHER_CONFIG = {"BLOCK_K": 512, "num_warps": 4}
PADDED = 64  # gathered rows are padded with zeros to a multiple of this many features


@triton.jit
def _row_of(line, k, j, idx, BLOCKS: tl.constexpr):
    """The row number, in 64 bits, of a mask's row j in V (where it is idx) or in the blocks."""
    if BLOCKS:
        at = line.to(tl.int64) * k + j
    else:
        at = idx.to(tl.int64)
    return at


@triton.jit
def _put(place, value, inside, ADD: tl.constexpr):
    """Store a value of the dtype that `place` points to, or with ADD add it to what is there."""
    if ADD:
        value = (tl.load(place, mask=inside, other=0.0).to(tl.float32) + value.to(tl.float32)).to(value.dtype)
    tl.store(place, value, mask=inside)


@triton.jit
def _product(a, v, sums, MODE: tl.constexpr):
    """sums + a @ v, summed in float32.

    MODE "half": both have 16 bits, on the tensor cores. "tf32": only v is float32; it is rounded to TF32 for the tensor
    cores, where a 16-bit a loses nothing. "ieee": float32 throughout.
    """
    if MODE == "half":
        sums = tl.dot(a, v, sums)
    else:
        sums = tl.dot(a.to(tl.float32), v.to(tl.float32), sums, input_precision=MODE)
    return sums


@triton.jit
def _decode_kernel(
    out, partial, x, V, indices, route, scale, d, k, share, out_stride, x_stride, v_stride,
    BLOCKS: tl.constexpr, ADD: tl.constexpr, SPLIT: tl.constexpr, STAGES: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    part = tl.program_id(2)
    inside = column < d
    line = tl.load(route + row)
    place = out + row * out_stride + column
    if line >= 0:
        sums = tl.zeros((BLOCK_K, BLOCK_N), tl.float32)
        mask = indices + line.to(tl.int64) * k
        last = tl.minimum(k, (part + 1) * share)
        for start in tl.range(part * share, last, BLOCK_K, num_stages=STAGES):
            j = start + tl.arange(0, BLOCK_K)
            idx = tl.load(mask + j, mask=j < last, other=0)
            a = tl.load(x + row * x_stride + idx, mask=j < last, other=0.0).to(tl.float32)
            at = _row_of(line, k, j, idx, BLOCKS)
            v = tl.load(V + at[:, None] * v_stride + column[None, :],
                        mask=(j < last)[:, None] & inside[None, :], other=0.0)  # fmt: skip
            sums += a[:, None] * v.to(tl.float32)
        value = tl.sum(sums, axis=0) * scale
        if SPLIT:
            tl.store(partial + (row * tl.num_programs(2) + part) * d + column, value, mask=inside)
        else:
            _put(place, value.to(out.dtype.element_ty), inside, ADD)
    elif not (ADD or SPLIT):
        tl.store(place, tl.full((BLOCK_N,), -0.0, out.dtype.element_ty), mask=inside)


@triton.jit
def _sum_kernel(out, partial, route, d, parts, out_stride, ADD: tl.constexpr, BLOCK_N: tl.constexpr):
    """Add up the parts of a decode's sums, in order."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = column < d
    place = out + row * out_stride + column
    if tl.load(route + row) >= 0:
        total = tl.zeros((BLOCK_N,), tl.float32)
        for part in range(parts):
            total += tl.load(partial + (row * parts + part) * d + column, mask=inside, other=0.0)
        _put(place, total.to(out.dtype.element_ty), inside, ADD)
    elif not ADD:
        tl.store(place, tl.full((BLOCK_N,), -0.0, out.dtype.element_ty), mask=inside)


@triton.jit
def _gather_kernel(gathered, x, indices, order, lines, k, x_stride, width, BLOCK_K: tl.constexpr):
    """Row i of `gathered` (width columns): the active features of row order[i], whose mask is lines[i], then zeros."""
    row = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    line = tl.load(lines + row)
    if line >= 0:
        idx = tl.load(indices + line.to(tl.int64) * k + j, mask=j < k, other=0)
        source = x + tl.load(order + row) * x_stride
        tl.store(gathered + row * width + j, tl.load(source + idx, mask=j < k, other=0.0), mask=j < width)


@triton.jit
def _tile_rows(order, starts, tile_ends, masks, LINES: tl.constexpr, BLOCK_M: tl.constexpr):
    """The mask of this program's tile (`masks` if there is no such tile), its places in `order`, its rows, and which
    are real."""
    tile = tl.program_id(0)
    each = tl.arange(0, LINES)
    line = tl.sum((tl.load(tile_ends + each, mask=each < masks, other=0x7FFFFFFF) <= tile).to(tl.int32))
    real = line < masks
    before = tl.load(tile_ends + line - 1, mask=real & (line > 0), other=0)
    place = tl.load(starts + line, mask=real, other=0) + (tile - before) * BLOCK_M + tl.arange(0, BLOCK_M)
    live = place < tl.load(starts + line + 1, mask=real, other=0)
    return line, place, tl.load(order + place, mask=live, other=0), live


@triton.jit
def _prefill_kernel(
    out, gathered, V, indices, order, starts, tile_ends, masks, scale, d, k, width, out_stride, v_stride,
    BLOCKS: tl.constexpr, ADD: tl.constexpr, MODE: tl.constexpr, LINES: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    line, place, row, live = _tile_rows(order, starts, tile_ends, masks, LINES, BLOCK_M)
    if line < masks:
        column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
        mask = indices + line.to(tl.int64) * k
        source = gathered + place.to(tl.int64)[:, None] * width
        sums = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for start in range(0, width, BLOCK_K):
            j = start + tl.arange(0, BLOCK_K)
            a = tl.load(source + j[None, :], mask=live[:, None], other=0.0)
            idx = tl.load(mask + j, mask=j < k, other=0)
            at = _row_of(line, k, j, idx, BLOCKS)
            v = tl.load(V + at[:, None] * v_stride + column[None, :],
                        mask=(j < k)[:, None] & (column < d)[None, :], other=0.0)  # fmt: skip
            sums = _product(a, v, sums, MODE)
        value = (sums * scale).to(out.dtype.element_ty)
        _put(out + row[:, None] * out_stride + column[None, :], value, live[:, None] & (column < d)[None, :], ADD)


@triton.jit
def _backward_kernel(
    out, grad, V, indices, order, starts, tile_ends, masks, scale, d, k, out_stride, grad_stride, v_stride,
    BLOCKS: tl.constexpr, MODE: tl.constexpr, LINES: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    line, _, row, live = _tile_rows(order, starts, tile_ends, masks, LINES, BLOCK_M)
    if line < masks:
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
            sums = _product(g, v, sums, MODE)
        place = out + row[:, None] * out_stride + idx[None, :]
        tl.store(place, (sums * scale).to(out.dtype.element_ty), mask=live[:, None] & (j < k)[None, :])


# ---- launchers ---------------------------------------------------------------------------------------------------


def decode_config(d: int) -> dict[str, int]:
    """The configuration of `_decode_kernel`: narrow strips for small d, so that enough programs fill the GPU."""
    return DECODE_CONFIGS[0] if d >= 2048 else DECODE_CONFIGS[1]


def decode_parts(rows: int, d: int, k: int, config: dict[str, int]) -> int:
    """How many parts a decode's masks are split into: at most eight, of at least two steps each, and no more than fill
    a GPU."""
    programs = rows * triton.cdiv(d, config["BLOCK_N"])
    return max(1, min(8, triton.cdiv(k, 2 * config["BLOCK_K"]), triton.cdiv(2048, programs)))


def prefill_config(rows: int, masks: int, mode: str) -> dict[str, int]:
    """The configuration of `_prefill_kernel`: the tiles' height suits the average number of rows that share a mask."""
    share = rows // max(masks, 1)
    return PREFILL_CONFIGS[mode][0 if share >= 128 else 1 if share >= 32 else 2]


def backward_config(rows: int, masks: int) -> dict[str, int]:
    """The configuration of `_backward_kernel`, chosen likewise."""
    return BACKWARD_CONFIGS[0 if rows // max(masks, 1) >= 64 else 1]


def _rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()


class _Weights(NamedTuple):
    """The memory's rows: V (D, d) with contiguous rows, or contiguous blocks (R, k, d); and the stride between rows."""

    V: Tensor
    stride: int
    blocks: bool


def _weights(V: Tensor) -> _Weights:
    if V.dim() == 3:
        return _Weights(V.contiguous(), V.shape[2], True)  # torch may report any stride if k is 1
    V = _rows(V)
    return _Weights(V, V.stride(0), False)


def mode_of(a: Tensor, V: Tensor) -> str:
    """The mode in which `_product` multiplies a and V; "ieee" on a CPU, as Triton's interpreter gets bfloat16 products
    wrong."""
    if not a.is_cuda or a.dtype == torch.float32:
        return "ieee"
    return "half" if a.dtype == V.dtype == torch.bfloat16 else "tf32"


def _grouped(route: Tensor, masks: int, block: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Group rows by mask: each row's mask, sorted (rows,); the rows in that order (rows,); where each mask's rows begin
    (masks + 1,); and the number of tiles up to each mask's end (masks,)."""
    lines, order = torch.sort(route, stable=True)
    each = torch.arange(masks + 1, dtype=route.dtype, device=route.device)
    starts = torch.searchsorted(lines, each)
    tiles = (starts.diff() + (block - 1)).div(block, rounding_mode="floor")
    return lines, order, starts, tiles.cumsum(0)


def masked_matmul(x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    """(N, d) of x's dtype; rows with route -1 are -0.0.

    Args:
        x: (N, D) float32, bfloat16 or float16.
        V: (D, d), or blocks (R, k, d), float32 or bfloat16.
        indices: (R, k) int32, not checked.
        route: (N,) int32, not checked.
        scale: a number.
    """
    if len(x) <= DECODE_ROWS and len(indices):
        out = torch.empty(len(x), V.shape[-1], dtype=x.dtype, device=x.device)
    else:
        out = torch.full((len(x), V.shape[-1]), -0.0, dtype=x.dtype, device=x.device)
    _launch(out, x, V, indices, route, scale, add=False)
    return out


def masked_matmul_(out: Tensor, x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
    """Add the product to `out` (N, d) of x's dtype; rows with route -1 are not written. Arguments as
    `masked_matmul`."""
    rows = _rows(out)
    _launch(rows, x, V, indices, route, scale, add=True)
    if rows is not out:
        out.copy_(rows)


def _launch(out: Tensor, x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float, add: bool) -> None:
    rows, masks, d = len(x), len(indices), V.shape[-1]
    if rows == 0 or masks == 0 or d == 0:
        return
    if rows > DECODE_ROWS and masks == 1 and x.is_cuda:
        _one_mask(out, x, V[0] if V.dim() == 3 else V.index_select(0, indices[0]), indices[0], route, scale, add)
        return
    x, indices, route = _rows(x), indices.contiguous(), route.contiguous()
    launch = _decode if rows <= DECODE_ROWS else _prefill
    launch(out, x, _weights(V), indices, route, scale, add)


def _one_mask(out: Tensor, x: Tensor, weights: Tensor, idx: Tensor, route: Tensor, scale: float, add: bool) -> None:
    """Many rows that share the only mask, as in the prefill of one prompt: torch multiplies whole matrices.

    With a 16-bit x, float32 weights are split into the sum of two 16-bit matrices, multiplied side by side in one
    product. That keeps all but their last bits.
    """
    active = x.index_select(1, idx)
    weights = weights if scale == 1.0 else weights.float() * scale
    high = weights.to(x.dtype)
    if weights.dtype == torch.float32 != x.dtype:
        active, high = torch.cat((active, active), 1), torch.cat((high, (weights - high).to(x.dtype)))
    product, reads = active @ high, (route >= 0)[:, None]
    torch.where(reads, out + product if add else product, out, out=out)


def _decode(out: Tensor, x: Tensor, weights: _Weights, indices: Tensor, route: Tensor, scale: float, add: bool) -> None:
    rows, k, d = len(x), indices.shape[1], out.shape[1]
    config = decode_config(d)
    parts = decode_parts(rows, d, k, config)
    partial = torch.empty(rows, parts, d, dtype=torch.float32, device=x.device) if parts > 1 else out
    share = triton.cdiv(triton.cdiv(k, parts), config["BLOCK_K"]) * config["BLOCK_K"]
    strips = triton.cdiv(d, config["BLOCK_N"])
    _decode_kernel[rows, strips, parts](out, partial, x, weights.V, indices, route, scale, d, k, share, out.stride(0), x.stride(0),
                         weights.stride, BLOCKS=weights.blocks, ADD=add, SPLIT=parts > 1, **config)  # fmt: skip
    if parts > 1:
        grid = (rows, triton.cdiv(d, SUM_CONFIG["BLOCK_N"]))
        _sum_kernel[grid](out, partial, route, d, parts, out.stride(0), ADD=add, **SUM_CONFIG)


def _prefill(
    out: Tensor, x: Tensor, weights: _Weights, indices: Tensor, route: Tensor, scale: float, add: bool
) -> None:
    rows, (masks, k), d = len(x), indices.shape, out.shape[1]
    mode = mode_of(x, weights.V)
    config = prefill_config(rows, masks, mode)
    lines, *groups = _grouped(route, masks, config["BLOCK_M"])
    width = triton.cdiv(k, PADDED) * PADDED
    gathered = torch.empty(rows, width, dtype=x.dtype, device=x.device)
    _gather_kernel[rows, triton.cdiv(width, GATHER_CONFIG["BLOCK_K"])](
        gathered, x, indices, groups[0], lines, k, x.stride(0), width, **GATHER_CONFIG
    )
    grid = (rows // config["BLOCK_M"] + masks, triton.cdiv(d, config["BLOCK_N"]))
    _prefill_kernel[grid](out, gathered, weights.V, indices, *groups, masks, scale, d, k, width, out.stride(0), weights.stride,
                          BLOCKS=weights.blocks, ADD=add, MODE=mode, LINES=triton.next_power_of_2(masks), **config)  # fmt: skip


def masked_matmul_backward(
    grad: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float, dimension: int
) -> Tensor:
    """(N, dimension), of grad's dtype: the gradient with respect to x, from grad (N, d).

    It is zero outside each row's mask and in rows with route -1. The other arguments as `masked_matmul`.
    """
    out = torch.zeros(len(grad), dimension, dtype=grad.dtype, device=grad.device)
    rows, (masks, k), d = len(grad), indices.shape, V.shape[-1]
    if rows == 0 or masks == 0 or k == 0:
        return out
    weights = _weights(V)
    grad, indices = _rows(grad), indices.contiguous()
    config = backward_config(rows, masks)
    grid = (rows // config["BLOCK_M"] + masks, triton.cdiv(k, config["BLOCK_N"]))
    _, *groups = _grouped(route.contiguous(), masks, config["BLOCK_M"])
    _backward_kernel[grid](out, grad, weights.V, indices, *groups, masks, scale, d, k, out.stride(0), grad.stride(0), weights.stride,
                           BLOCKS=weights.blocks, MODE=mode_of(grad, V), LINES=triton.next_power_of_2(masks), **config)  # fmt: skip
    return out
