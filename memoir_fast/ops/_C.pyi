"""The C++ extension's functions, see csrc/cpu/bindings/. Addresses point into checked tensors; strides are in elements. What takes
arrays checks them.

Dtype codes: 0 float32, 1 bfloat16, 2 float16.
"""

from array import array
from typing import Any

import numpy as np

def level() -> str:
    """The SIMD level in use: scalar, avx2 or avx512."""

def set_level(name: str) -> None:
    """Use another level. Raises ValueError if this CPU has none of that name."""

def levels() -> list[str]:
    """The levels that this CPU can run."""

def pool_name() -> str:
    """The library whose threads are used, or "std::thread"."""

def set_pool(path: str) -> bool:
    """Use another library's threads; "" for std::thread. Returns whether it loaded."""

def tophash(
    features: int, dtype: int, batch: int, dimension: int, stride: int, background: int, permutation: int, k: int,
    indices: int, signature: int, threads: int, name: str,
) -> None:  # fmt: skip
    """Masks and signatures. Raises ValueError naming `name` if a value is not finite, or for a bad permutation."""

def pool(
    tokens: int, dtype: int, count: int, dimension: int, stride: int, segments: int, ends: int, means: int
) -> None:
    """Means of token segments. Raises ValueError if the segments' ends do not fit the tokens."""

def product(
    x: int, x_dtype: int, x_stride: int, rows: int, dimension: int, weights: int, w_dtype: int, w_stride: int, d: int,
    blocks: bool, indices: int, masks: int, k: int, route: int, scale: float, out: int, out_dtype: int, out_stride: int,
    add: bool, order: int, threads: int,
) -> list[tuple[int, int, int]]:  # fmt: skip
    """The product for rows whose mask few rows share. Returns the other masks as (mask, first place in order, rows)."""

def pack(
    x: int, x_dtype: int, x_stride: int, row_at: int, rows: int, weights: int, w_dtype: int, w_stride: int, d: int,
    blocks: bool, idx: int, k: int, scale: float, packed: int, block: int, threads: int,
) -> None:  # fmt: skip
    """A matrix product's factors in float32: scale * x[row_at][:, idx], and the weights' rows unless `block` is 0."""

def emit(sums: int, rows: int, d: int, out: int, dtype: int, stride: int, row_at: int, add: bool) -> None:
    """out[row_at] = sums, or += sums."""

def check_unique(idx: int, k: int, dimension: int) -> None:
    """Raise ValueError unless the indices are in range and none is repeated."""

def scatter(
    V: int, v_dtype: int, d: int, v_stride: int, idx: int, k: int, update: int, scale: float, threads: int
) -> float:
    """V[idx] += scale * update; returns the sum of the squares of `update`."""

def hamming_nearest(
    queries: int, count: int, codes: int, slices: int, rows: int, width: int, slice: int, candidates: int, out_rows: int,
    out_distances: int, threads: int,
) -> None:  # fmt: skip
    """For each query, the nearest code's row and its distance; `slices` 0 compares all codes in full."""

def pair_feature_names() -> list[str]:
    """The features in the order in which `pair_features` returns them."""

def pair_features(
    query: dict[str, Any], store: dict[str, np.ndarray], rows: np.ndarray, text: int, sense_length: float
) -> np.ndarray:
    """(F, C) float32: the features of a query beside the stored prompts `rows` (C,) int64. Raises ValueError or TypeError
    naming an array that does not fit."""

def summed_codes(code: np.ndarray, weight: np.ndarray, coded: np.ndarray, bits: int) -> np.ndarray:
    """(L,) uint64: the signs of the weighted sum of codes (n, L), as bits."""

def nearest_sums(sums: np.ndarray, code: np.ndarray, number: int, open_rows: np.ndarray | None) -> np.ndarray:
    """The rows of sums (R, L) nearest to the code (L,), nearest first; the newest among equals."""

def rows_by_words(
    postings: list[array[int]], worth: np.ndarray, size: np.ndarray, scores: np.ndarray, number: int,
    open_rows: np.ndarray | None,
) -> np.ndarray:  # fmt: skip
    """The rows with the highest sums of `worth` over their lists, divided by their sizes; the newest among equals."""
