"""The CPU backend: passes tensors to the C++ extension as raw pointers; see csrc/."""

from __future__ import annotations

import threading
from array import array
from typing import Any

import numpy as np
import torch
from torch import Tensor

try:
    from . import _C
except ImportError as error:  # not built (MEMOIR_FAST_EXT=0), or it does not load: the reference is used
    _C, _MISSING = None, str(error)  # type: ignore[assignment]


def available() -> bool:
    """Whether the extension was built and loads here."""
    return _C is not None


def require() -> None:
    """Raise ValueError unless the extension loads."""
    if _C is None:
        raise ValueError(
            f"MEMOIR_FAST_BACKEND=cpp, but the C++ extension does not load: {_MISSING}; reinstall the package"
        )


def level() -> str:
    """The SIMD level in use: scalar, avx2 or avx512 (`MEMOIR_FAST_SIMD` forces one)."""
    return _C.level()


def describe() -> str:
    """Whether the extension is built, and its SIMD levels, in words."""
    return "not built" if _C is None else f"built, SIMD level {_C.level()} of {', '.join(_C.levels())}"


# The features that `pair_features` computes, in order.
PAIR_FEATURES: tuple[str, ...] = () if _C is None else tuple(_C.pair_feature_names())

# ---- the operations, see backend.py -------------------------------------------------------------------------------

_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_BLOCK_BYTES = 4 << 20  # size of a block of packed rows for torch's GEMM; it stays in the last-level cache


class _Scratch(threading.local):
    """A thread's block of packed rows, reused between calls because fresh memory costs a page fault every 4 KB."""

    buffer: Tensor | None = None

    def take(self, rows: int, columns: int) -> Tensor:
        if self.buffer is None or len(self.buffer) < rows * columns:
            with torch.inference_mode(False):  # usable inside and outside inference mode
                self.buffer = torch.empty(rows * columns)
        return self.buffer[: rows * columns].view(rows, columns)


_scratch = _Scratch()


def _block_rows(d: int) -> int:
    """How many rows of d floats are packed at a time."""
    return max(64, _BLOCK_BYTES // (4 * max(d, 1)))


def _rows(tensor: Tensor) -> Tensor:
    """The tensor with contiguous rows (any row stride)."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()


def _float(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float32 and tensor.is_contiguous() else tensor.float().contiguous()


def tophash(
    features: Tensor, background: Tensor, permutation: Tensor, k: int, name: str = "features"
) -> tuple[Tensor, Tensor]:
    """Masks and signatures. Raises ValueError naming a row of `name` with a value that is not finite."""
    batch, dimension = features.shape
    features, background, permutation = _rows(features), _float(background), permutation.contiguous()
    indices = torch.empty(batch, k, dtype=torch.int32)
    signature = torch.empty(batch, (dimension + 7) // 8, dtype=torch.uint8)
    _C.tophash(features.data_ptr(), _CODES[features.dtype], batch, dimension, features.stride(0), background.data_ptr(),
               permutation.data_ptr(), k, indices.data_ptr(), signature.data_ptr(), torch.get_num_threads(), name)  # fmt: skip
    return indices, signature


def tophash_pooled(
    tokens: Tensor, cu_seqlens: Tensor, background: Tensor, permutation: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """`tophash` of the means of token segments. Raises ValueError also for a segment without tokens."""
    tokens, cu_seqlens = _rows(tokens), cu_seqlens.contiguous()
    means = torch.empty(len(cu_seqlens) - 1, tokens.shape[1])
    _C.pool(tokens.data_ptr(), _CODES[tokens.dtype], len(tokens), tokens.shape[1], tokens.stride(0), len(means),
            cu_seqlens.data_ptr(), means.data_ptr())  # fmt: skip
    return tophash(means, background, permutation, k, name="tokens")


def masked_matmul(x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    """(N, d) of x's dtype. Raises ValueError naming an index out of range."""
    out = torch.empty(len(x), V.shape[1], dtype=x.dtype)
    _product(out, x, V, indices, route, scale, add=False)
    return out


def masked_matmul_(out: Tensor, x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
    """Adds to the rows of `out` that have a route. Raises ValueError naming an index out of range."""
    _add_product(out, x, V, indices, route, scale)


def masked_matmul_backward(
    grad: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float, dimension: int
) -> Tensor:
    """The gradient (N, dimension) with respect to x."""
    out = torch.zeros(len(grad), dimension, dtype=grad.dtype)
    for line, mask in enumerate(indices):
        idx = mask.long()
        _add_gradient(out, grad, V.index_select(0, idx), idx, route == line, scale)
    return out


def block_matmul(x: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    """As `masked_matmul`, with blocks (R, k, d)."""
    out = torch.empty(len(x), blocks.shape[2], dtype=x.dtype)
    _product(out, x, blocks, indices, route, scale, add=False)
    return out


def block_matmul_(out: Tensor, x: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
    """As `masked_matmul_`, with blocks (R, k, d)."""
    _add_product(out, x, blocks, indices, route, scale)


def block_matmul_backward(
    grad: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float, dimension: int
) -> Tensor:
    """As `masked_matmul_backward`, with blocks (R, k, d)."""
    out = torch.zeros(len(grad), dimension, dtype=grad.dtype)
    for line, mask in enumerate(indices):
        _add_gradient(out, grad, blocks[line], mask.long(), route == line, scale)
    return out


def _add_gradient(out: Tensor, grad: Tensor, block: Tensor, idx: Tensor, routed: Tensor, scale: float) -> None:
    """Fill the rows of `out` (N, D), zero so far, that are routed to one mask: idx (k,) int64, block (k, d)."""
    rows = routed.nonzero()[:, 0]
    columns = (grad[rows].float() @ block.float().T) * scale
    out[rows] = out[rows].index_copy(1, idx, columns.to(grad.dtype))


def _add_product(out: Tensor, x: Tensor, weights: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
    if out.stride(-1) == 1 or out.shape[1] <= 1:
        _product(out, x, weights, indices, route, scale, add=True)
    else:
        rows = out.contiguous()
        _product(rows, x, weights, indices, route, scale, add=True)
        out.copy_(rows)


def _product(out: Tensor, x: Tensor, weights: Tensor, indices: Tensor, route: Tensor, scale: float, add: bool) -> None:
    """Write the rows of `out` that have a route. Our kernel computes masks shared by few rows; the others go through a
    GEMM.

    `weights` is V (D, d), or blocks (R, k, d), which the kernels read as (R * k, d): row j of mask r is at r * k + j.
    """
    blocks = weights.dim() == 3
    weights = weights.contiguous() if blocks else _rows(weights)
    x, indices, route = _rows(x), indices.contiguous(), route.contiguous()
    (count, D), (masks, k), d, threads = x.shape, indices.shape, weights.shape[-1], torch.get_num_threads()
    order = torch.empty(count, dtype=torch.int64)
    left = (x.data_ptr(), _CODES[x.dtype], x.stride(0))
    stride = d if blocks else weights.stride(0)  # torch may report any stride if k is 1, even for contiguous blocks
    right = (weights.data_ptr(), _CODES[weights.dtype], stride, d)
    target = (out.data_ptr(), _CODES[out.dtype], out.stride(0))
    large = _C.product(*left, count, D, *right, blocks, indices.data_ptr(), masks, k, route.data_ptr(), scale, *target, add,
                       order.data_ptr(), threads)  # fmt: skip
    for line, first, rows in large:
        at = order.data_ptr() + 8 * first
        direct = rows == count and not add and out.dtype == torch.float32
        sums = out if direct else torch.empty(rows, d)
        _gemm(sums, x, at, weights[line] if blocks else weights, indices[line], scale, blocks)
        if not direct:
            _C.emit(sums.data_ptr(), rows, d, *target, at, add)


def _gemm(sums: Tensor, x: Tensor, at: int, weights: Tensor, idx: Tensor, scale: float, block: bool) -> None:
    """sums (rows, d) = scale * x[at][:, idx] @ weights[idx], or @ weights for a block (k, d).

    `at` is the address of the row numbers. V's rows are packed and converted to float32, some at a time; a float32
    block is multiplied in place.
    """
    (rows, d), k, as_it_lies = sums.shape, len(idx), block and weights.dtype == torch.float32
    if k == 0:
        sums.zero_()
    step = max(k, 1) if as_it_lies else _block_rows(d)
    for start in range(0, k, step):
        some = min(step, k - start)
        packed = torch.empty(rows, some)
        factor = weights if as_it_lies else _scratch.take(some, d)
        first = weights[start:] if block else weights
        _C.pack(x.data_ptr(), _CODES[x.dtype], x.stride(0), at, rows, first.data_ptr(), _CODES[weights.dtype], weights.stride(0), d,
                block, idx.data_ptr() + 4 * start, some, scale, packed.data_ptr(), 0 if as_it_lies else factor.data_ptr(),
                torch.get_num_threads())  # fmt: skip
        torch.mm(packed, factor, out=sums) if start == 0 else sums.addmm_(packed, factor)


def masked_scatter_(V: Tensor, idx: Tensor, A: Tensor, G: Tensor, scale: float) -> Tensor:
    """Adds to V's rows, some at a time. Raises ValueError naming an index that is out of range or repeated."""
    idx = idx.contiguous()
    _C.check_unique(idx.data_ptr(), len(idx), len(V))
    if V.stride(-1) != 1 and V.shape[1] > 1:  # rows that are not contiguous are updated in a copy
        chosen = idx.long()
        rows = V[chosen]
        squared = masked_scatter_(rows, torch.arange(len(idx), dtype=torch.int32), A, G, scale)
        V[chosen] = rows
        return squared
    G, k, d = G.float(), len(idx), V.shape[1]
    step = _block_rows(d)
    at, total = idx.data_ptr(), 0.0
    for start in range(0, k, step):
        some = min(step, k - start)
        update = _scratch.take(some, d)
        columns = A if some == k else A[:, start : start + some]
        torch.mm(columns.float().T, G, out=update)
        total += _C.scatter(V.data_ptr(), _CODES[V.dtype], d, V.stride(0), at + 4 * start, some, update.data_ptr(), scale,
                            torch.get_num_threads())  # fmt: skip
    return torch.tensor(total, dtype=torch.float32)


def hamming_nearest(
    queries: np.ndarray, codes: np.ndarray, slices: np.ndarray | None = None, candidates: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The code nearest to each query; among equals, the one in the lowest row.

    Args:
        queries: (B, w) uint8 array, contiguous.
        codes: (n, w) uint8 array, n > 0, contiguous.
        slices: (n, s) uint8, the first s bytes of each code, or None to compare every code in full.
        candidates: with slices, how many codes (or somewhat more), those nearest by slice, are compared in full.

    Returns:
        rows and Hamming distances in bits, both (B,) int64.
    """
    rows, distances = np.empty(len(queries), np.int64), np.empty(len(queries), np.int64)
    start, width = (0, 0) if slices is None else (slices.ctypes.data, slices.shape[1])
    _C.hamming_nearest(queries.ctypes.data, len(queries), codes.ctypes.data, start, len(codes), codes.shape[1], width, candidates,
                       rows.ctypes.data, distances.ctypes.data, torch.get_num_threads())  # fmt: skip
    return rows, distances


def pair_features(
    query: dict[str, Any], store: dict[str, np.ndarray], rows: np.ndarray, sense_length: int
) -> np.ndarray:
    """See `pair_features.py`."""
    return _C.pair_features(query, store, rows, query["text"], sense_length)


def summed_codes(code: np.ndarray, weight: np.ndarray, coded: np.ndarray, bits: int) -> np.ndarray:
    """(L,) uint64: the signs of the weighted sum of codes (n, L) uint64, as bits; those from `bits` on are 0. weight:
    (n,) float32; coded: (n,) bool, whether a code counts."""
    return _C.summed_codes(code, weight, coded, bits)


def nearest_sums(sums: np.ndarray, code: np.ndarray, number: int, open_rows: np.ndarray | None) -> np.ndarray:
    """At most `number` rows of sums (R, L) uint64, those nearest to the code (L,), nearest first; the newest among
    equals. open_rows: (R,) bool, the rows that count; None for all."""
    return _C.nearest_sums(sums, code, number, open_rows)


def rows_by_words(
    postings: list[array[int]],
    worth: np.ndarray,
    size: np.ndarray,
    scores: np.ndarray,
    number: int,
    open_rows: np.ndarray | None,
) -> np.ndarray:
    """At most `number` rows with the highest scores, highest first; the newest among equals.

    Args:
        postings: lists of rows, in each of which a row occurs once.
        worth: (lists,) float64, what a list adds to its rows.
        size: (R,) float32, by which a row's sum is divided.
        scores: (R or more,) float64, all zero before and after.
        number: the most rows.
        open_rows: (R,) bool, the rows that count; None for all.
    """
    return _C.rows_by_words(postings, worth, size, scores, number, open_rows)
