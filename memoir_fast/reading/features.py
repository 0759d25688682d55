"""Prompt features: which activations of a prompt decide its mask (MEMOIR, section 3.2)."""

from __future__ import annotations

import torch

from .. import ops
from ..memory.residual import ResidualMemory


def tophash_prompts(
    activations: torch.Tensor, prompt_mask: torch.Tensor, memory: ResidualMemory
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks of a batch of prompts: each one's feature, made of its tokens as `memory.feature` says, through TopHash.

    Args:
        activations: (B, T, D) inputs of the edited projection.
        prompt_mask: (B, T) bool, the prompt's tokens (no padding, no target); at least one in each row.
        memory: background, permutation, k and the feature's kind.

    Returns:
        indices (B, k) int32 ascending and signature (B, ceil(D/8)) uint8, on the activations' device.
    """
    if memory.feature == "last":
        prompt_mask = last_only(prompt_mask)
    lengths = prompt_mask.sum(1)
    cu_seqlens = torch.zeros(len(lengths) + 1, dtype=torch.int32, device=lengths.device)
    cu_seqlens[1:] = lengths.cumsum(0)
    return tophash_segments(_kept(activations, prompt_mask), cu_seqlens, memory)


def _kept(activations: torch.Tensor, prompt_mask: torch.Tensor) -> torch.Tensor:
    """(N, D): the tokens that `prompt_mask` keeps, one behind the other. On a GPU the others follow, in no segment: how many are kept is
    known there only, and asking would wait for it."""
    if not activations.is_cuda:
        return activations[prompt_mask]
    order = prompt_mask.reshape(-1).to(torch.uint8).argsort(descending=True, stable=True)
    return activations.reshape(-1, activations.shape[-1])[order]


def tophash_segments(
    activations: torch.Tensor, cu_seqlens: torch.Tensor, memory: ResidualMemory
) -> tuple[torch.Tensor, torch.Tensor]:
    """`tophash_prompts` of prompts that stand one behind the other: activations (N, D), cu_seqlens (B+1,) int32."""
    return ops.tophash_pooled(activations, cu_seqlens, memory.background, memory.permutation, memory.top_k)


def last_only(prompt_mask: torch.Tensor) -> torch.Tensor:
    """(B, T) bool with only the last True of each row left."""
    later = prompt_mask.flip(1).cumsum(1).flip(1)
    return prompt_mask & (later == 1)


def mean_features(activations: torch.Tensor, prompt_mask: torch.Tensor) -> torch.Tensor:
    """(B, D) float32 mean of each row's prompt tokens; the background is the mean of these over unrelated prompts."""
    weight = prompt_mask.to(torch.float32).unsqueeze(-1)
    return (activations.float() * weight).sum(1) / weight.sum(1)
