"""TopHash: turns prompt features into masks and their packed signatures (MEMOIR, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from . import checks, cpu, reference
from .dispatch import LIBRARY, kernels_for, unwatched

LIBRARY.define("tophash(Tensor features, Tensor background, Tensor permutation, int k) -> (Tensor, Tensor)")
LIBRARY.define(
    "tophash_pooled(Tensor tokens, Tensor cu_seqlens, Tensor background, Tensor permutation, int k) -> (Tensor, Tensor)"
)


def _empty_masks(batch: int, columns: int, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    signature = torch.empty(batch, (columns + 7) // 8, dtype=torch.uint8, device=device)
    return torch.empty(batch, k, dtype=torch.int32, device=device), signature


# The C++ kernels check values while they read the data; for the others it is done here. (On the CPU only: on a GPU,
# looking at a value means waiting for it.)


def _tophash(features: Tensor, background: Tensor, permutation: Tensor, k: int) -> tuple[Tensor, Tensor]:
    kernels = kernels_for(features)
    if kernels is not cpu and not features.is_cuda:
        checks.finite("features", features, background)
        checks.permutation(permutation)
    return kernels.tophash(features, background, permutation, k)


def _tophash_pooled(
    tokens: Tensor, cu_seqlens: Tensor, background: Tensor, permutation: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    kernels = kernels_for(tokens)
    if kernels is not cpu and not tokens.is_cuda:
        checks.segment_values(cu_seqlens, len(tokens))
        checks.finite("tokens", reference.pool(tokens, cu_seqlens), background)
        checks.permutation(permutation)
    return kernels.tophash_pooled(tokens, cu_seqlens, background, permutation, k)


LIBRARY.impl("tophash", _tophash, "CompositeExplicitAutograd")
LIBRARY.impl("tophash_pooled", _tophash_pooled, "CompositeExplicitAutograd")


@torch.library.register_fake("memoir_fast::tophash", lib=LIBRARY)
def _(features: Tensor, background: Tensor, permutation: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return _empty_masks(features.shape[0], features.shape[1], k, features.device)


@torch.library.register_fake("memoir_fast::tophash_pooled", lib=LIBRARY)
def _(tokens: Tensor, cu_seqlens: Tensor, background: Tensor, permutation: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return _empty_masks(cu_seqlens.shape[0] - 1, tokens.shape[1], k, tokens.device)


def tophash(features: Tensor, background: Tensor, permutation: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Masks of prompt features (MEMOIR, section 3.2): the k largest |features - background|, permuted, sorted, packed.

    Args:
        features: (B, D) float32, bfloat16 or float16.
        background: (D,) float32, bfloat16 or float16.
        permutation: (D,) int32, a permutation of 0..D-1.
        k: 1..D.

    Returns:
        indices (B, k) int32 ascending and signature (B, ceil(D/8)) uint8, little-endian, padding bits 0. Of equal
        magnitudes the lower index is taken.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape, dtype or device, or features hold NaN or infinity
            (checked on the CPU only; the message names the row).
    """
    checks.tophash("features", features, background, permutation, k)
    direct = unwatched(features, background, permutation)
    return (_tophash if direct else torch.ops.memoir_fast.tophash)(features, background, permutation, k)


def tophash_pooled(
    tokens: Tensor, cu_seqlens: Tensor, background: Tensor, permutation: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """`tophash` of the means of token segments, in one operation.

    Args:
        tokens: (N, D) float32, bfloat16 or float16; segment b is tokens[cu_seqlens[b]:cu_seqlens[b + 1]].
        cu_seqlens: (B + 1,) int32, from 0 to N, strictly ascending.
        background, permutation, k: as for `tophash`.

    Returns:
        As `tophash`, one row for each segment.

    Raises:
        TypeError, ValueError: as `tophash`, or cu_seqlens does not split the tokens into segments (checked on the CPU
            only).
    """
    checks.tophash("tokens", tokens, background, permutation, k)
    checks.segments(cu_seqlens, tokens.device)
    direct = unwatched(tokens, cu_seqlens, background, permutation)
    function = _tophash_pooled if direct else torch.ops.memoir_fast.tophash_pooled
    return function(tokens, cu_seqlens, background, permutation, k)
