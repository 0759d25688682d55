"""TopHash on the GPU: pool, subtract, exact top-k, permute, sort and pack (MEMOIR, section 3.2).

One program holds a prompt's D keys in registers, in permuted order, so that the indices come out sorted and the bits
packed without any exchange. The k-th largest key is found by bisection over the bits of |feature - background|, which
sort like the values. Nothing waits for the host.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

POOL_CONFIG = {"BLOCK": 256, "num_warps": 4}


@triton.jit
def _pool_kernel(tokens, ends, means, D, stride, BLOCK: tl.constexpr):
    segment = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    first, last = tl.load(ends + segment), tl.load(ends + segment + 1)
    total = tl.zeros((BLOCK,), tl.float32)
    for token in range(first, last):
        row = tokens + tl.cast(token, tl.int64) * stride
        total += tl.load(row + column, mask=column < D, other=0.0).to(tl.float32)
    tl.store(means + segment * D + column, total / (last - first), mask=column < D)


@triton.jit
def _invert_kernel(permutation, inverse, D, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    target = tl.load(permutation + place, mask=place < D, other=0)
    tl.store(inverse + target, place, mask=place < D)


@triton.jit
def _tophash_kernel(
    features, background, inverse, indices, signature, D, stride, k, width, BLOCK: tl.constexpr, BITS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    valid = place < D
    source = tl.load(inverse + place, mask=valid, other=0)
    value = tl.load(features + row * stride + source, mask=valid, other=0.0).to(tl.float32)
    value -= tl.load(background + source, mask=valid, other=0.0)
    key = tl.where(valid, value.to(tl.int32, bitcast=True) & 0x7FFFFFFF, -1)

    bound = 0  # becomes the largest value that at least k keys reach, bit by bit
    for step in range(31):
        candidate = bound | (1 << (30 - step))
        bound = tl.where(tl.sum((key >= candidate).to(tl.int32)) >= k, candidate, bound)
    above = key > bound
    equal = key == bound
    ties = k - tl.sum(above.to(tl.int32))
    limit = 0  # of equal keys, those with the lowest source indices count: the largest limit that admits at most `ties`
    for step in range(BITS):
        candidate = limit | (1 << (BITS - 1 - step))
        limit = tl.where(tl.sum((equal & (source < candidate)).to(tl.int32)) <= ties, candidate, limit)
    chosen = (above | (equal & (source < limit))).to(tl.int32)

    tl.store(indices + row * k + tl.cumsum(chosen, 0) - 1, place, mask=chosen != 0)
    packed = tl.sum(tl.reshape(chosen, (BLOCK // 8, 8)) << tl.arange(0, 8)[None, :], axis=1)
    byte = tl.arange(0, BLOCK // 8)
    tl.store(signature + row * width + byte, packed.to(tl.uint8), mask=byte < width)


def tophash_config(D: int, lanes: int = 32) -> dict[str, int]:
    """The configuration of `_tophash_kernel` for D features and warps of `lanes` lanes: all features in one program,
    with 128 to 512 threads of about 32 keys each."""
    block = max(256, triton.next_power_of_2(D))
    return {"BLOCK": block, "BITS": block.bit_length(), "num_warps": min(512, max(128, block // 32)) // lanes}


def tophash(features: Tensor, background: Tensor, permutation: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """indices (B, k) int32 ascending and signature (B, ceil(D/8)) uint8, little-endian.

    Args:
        features: (B, D) float32, bfloat16 or float16.
        background: (D,) float.
        permutation: (D,) int32, each of 0..D-1 once; not checked.
        k: 1..D.

    Source: MEMOIR, section 3.2.
    """
    batch, D = features.shape
    device, width = features.device, (D + 7) // 8
    features = features if features.stride(1) == 1 else features.contiguous()
    indices = torch.empty(batch, k, dtype=torch.int32, device=device)
    signature = torch.empty(batch, width, dtype=torch.uint8, device=device)
    if batch:
        inverse = torch.empty(D, dtype=torch.int32, device=device)
        _invert_kernel[(triton.cdiv(D, 1024),)](permutation.contiguous(), inverse, D, BLOCK=1024)
        _tophash_kernel[(batch,)](
            features, background.float().contiguous(), inverse, indices, signature, D, features.stride(0), k, width,
            **tophash_config(D, 64 if torch.version.hip else 32),
        )  # fmt: skip
    return indices, signature


def pool(tokens: Tensor, cu_seqlens: Tensor) -> Tensor:
    """(B, D) float32: the means of tokens[cu_seqlens[b]:cu_seqlens[b + 1]]. tokens (N, D) float, cu_seqlens (B + 1,)
    int32."""
    D, segments = tokens.shape[1], len(cu_seqlens) - 1
    tokens = tokens if tokens.stride(1) == 1 else tokens.contiguous()
    means = torch.empty(segments, D, dtype=torch.float32, device=tokens.device)
    if segments:
        grid = (segments, triton.cdiv(D, POOL_CONFIG["BLOCK"]))
        _pool_kernel[grid](tokens, cu_seqlens.contiguous(), means, D, tokens.stride(0), **POOL_CONFIG)
    return means


def tophash_pooled(
    tokens: Tensor, cu_seqlens: Tensor, background: Tensor, permutation: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """`tophash` of the means of token segments."""
    return tophash(pool(tokens, cu_seqlens), background, permutation, k)
