"""The project's operations in plain PyTorch: the specification that kernels are tested against, and the fallback.

Shapes: B prompts, N tokens, D features, d outputs, k active features, R masks, n training tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def tophash(features: Tensor, background: Tensor, permutation: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Masks of prompt features (MEMOIR, section 3.2).

    Args:
        features: (B, D) float32, bfloat16 or float16.
        background: (D,) float32.
        permutation: (D,) int32, a permutation of 0..D-1.
        k: 1..D.

    Returns:
        indices (B, k) int32 ascending: those of the k largest |features - background| (of equals, the lower index),
        each sent through the permutation; and signature (B, ceil(D/8)) uint8: the same as bits, little-endian, padding
        bits 0.
    """
    batch, dimension = features.shape
    magnitude = (features.float() - background.float()).abs()
    # A stable sort keeps equal magnitudes in index order, so the lower index wins.
    chosen = magnitude.sort(dim=1, descending=True, stable=True).indices[:, :k]
    indices = permutation.long()[chosen].sort(dim=1).values
    bits = torch.zeros(batch, (dimension + 7) // 8 * 8, dtype=torch.uint8, device=features.device)
    bits.scatter_(1, indices, 1)
    powers = torch.tensor([1 << j for j in range(8)], dtype=torch.uint8, device=features.device)
    signature = (bits.view(batch, (dimension + 7) // 8, 8) * powers).sum(2).to(torch.uint8)
    return indices.to(torch.int32), signature


def pool(tokens: Tensor, cu_seqlens: Tensor) -> Tensor:
    """(B, D) float32: the mean of tokens[cu_seqlens[b]:cu_seqlens[b+1]] for each b. tokens (N, D), cu_seqlens (B+1,)
    int32."""
    lengths = cu_seqlens.diff().long()
    segment = torch.arange(len(lengths), device=tokens.device).repeat_interleave(lengths)
    sums = torch.zeros(len(lengths), tokens.shape[1], dtype=torch.float32, device=tokens.device)
    sums.index_add_(0, segment, tokens.float())
    return sums / lengths.unsqueeze(1)


def tophash_pooled(
    tokens: Tensor, cu_seqlens: Tensor, background: Tensor, permutation: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """`tophash` of the means of token segments."""
    return tophash(pool(tokens, cu_seqlens), background, permutation, k)


def masked_matmul(x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    """(N, d) of x's dtype: row t is `scale * x[t, idx] @ V[idx]` with `idx = indices[route[t]]`; -0.0 where route is -1.

    Args:
        x: (N, D). V: (D, d) float32 or bfloat16. indices: (R, k) int32. route: (N,) int32 in -1..R-1.
    """
    return _products(x, _blocks_of(V, indices), V.shape[1], indices, route, scale)


def masked_matmul_(out: Tensor, x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
    """`out[t] += masked_matmul(...)[t]` for rows with a route; rows with route -1 are not written."""
    _add_products(out, x, _blocks_of(V, indices), indices, route, scale)


def masked_matmul_backward(
    grad: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float, dimension: int
) -> Tensor:
    """(N, D): the gradient with respect to x, from grad (N, d). It is zero outside a row's mask and in rows with route
    -1."""
    return _gradients(grad, _blocks_of(V, indices), indices, route, scale, dimension)


def block_matmul(x: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    """(N, d) of x's dtype: row t is `scale * x[t, indices[route[t]]] @ blocks[route[t]]`; -0.0 where route is -1.

    Args:
        x: (N, D). blocks: (R, k, d) float32 or bfloat16. indices: (R, k) int32. route: (N,) int32 in -1..R-1.
    """
    return _products(x, blocks, blocks.shape[2], indices, route, scale)


def block_matmul_(out: Tensor, x: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
    """`out[t] += block_matmul(...)[t]` for rows with a route; rows with route -1 are not written."""
    _add_products(out, x, blocks, indices, route, scale)


def block_matmul_backward(
    grad: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float, dimension: int
) -> Tensor:
    """(N, D): the gradient with respect to x, as `masked_matmul_backward`."""
    return _gradients(grad, blocks, indices, route, scale, dimension)


def masked_scatter_(V: Tensor, idx: Tensor, A: Tensor, G: Tensor, scale: float) -> Tensor:
    """`V[idx] += scale * A^T G`; returns `||A^T G||_F^2`, float32. V (D, d), idx (k,) int32, A (n, k), G (n, d)."""
    update = A.float().T @ G.float()
    V.index_add_(0, idx.long(), (scale * update).to(V.dtype))
    return update.square().sum()


# ---- one mask after another; `blocks` yields each mask's rows (k, d) ---------------------------------------------


def _blocks_of(V: Tensor, indices: Tensor) -> Iterable[Tensor]:
    return (V[idx.long()] for idx in indices)


def _products(x: Tensor, blocks: Iterable[Tensor], d: int, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    out = torch.full((len(x), d), -0.0, dtype=x.dtype, device=x.device)
    for line, block in enumerate(blocks):
        rows = (route == line).nonzero()[:, 0]
        out[rows] = _product(x[rows], block, indices[line].long(), scale)
    return out


def _add_products(
    out: Tensor, x: Tensor, blocks: Iterable[Tensor], indices: Tensor, route: Tensor, scale: float
) -> None:
    for line, block in enumerate(blocks):
        rows = (route == line).nonzero()[:, 0]
        out[rows] += _product(x[rows], block, indices[line].long(), scale)


def _gradients(
    grad: Tensor, blocks: Iterable[Tensor], indices: Tensor, route: Tensor, scale: float, dimension: int
) -> Tensor:
    out = torch.zeros(len(grad), dimension, dtype=grad.dtype, device=grad.device)
    wide = _wide(grad.dtype)
    for line, block in enumerate(blocks):
        rows = (route == line).nonzero()[:, 0]
        value = scale * (grad[rows].to(wide) @ block.to(wide).T)
        out[rows[:, None], indices[line].long()] = value.to(grad.dtype)
    return out


def _product(x: Tensor, block: Tensor, idx: Tensor, scale: float) -> Tensor:
    wide = _wide(x.dtype)
    return (scale * (x[:, idx].to(wide) @ block.to(wide))).to(x.dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype for sums: float32, or float64 if the input is (for gradient checks)."""
    return torch.float64 if dtype == torch.float64 else torch.float32
