"""Prompt features: the activations of a prompt that its mask is made from (MEMOIR, section 3.2)."""

from __future__ import annotations

import torch

from .. import ops
from ..memory.residual import ResidualMemory


def tophash_prompts(
    activations: torch.Tensor, prompt_mask: torch.Tensor, memory: ResidualMemory
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks of a batch of prompts: TopHash of each prompt's feature, which `memory.feature` defines.

    Args:
        activations: (B, T, D) inputs of the edited projection.
        prompt_mask: (B, T) bool, the prompts' tokens without padding and target; at least one in each row.
        memory: supplies the background, the permutation, k and the kind of feature.

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
    """(N, D): the activations of the tokens that `prompt_mask` keeps, in order.

    On a GPU the other tokens' follow, outside all segments. Leaving them out would mean waiting for the device to say
    how many are kept.
    """
    if not activations.is_cuda:
        return activations[prompt_mask]
    order = prompt_mask.reshape(-1).to(torch.uint8).argsort(descending=True, stable=True)
    return activations.reshape(-1, activations.shape[-1])[order]


def tophash_segments(
    activations: torch.Tensor, cu_seqlens: torch.Tensor, memory: ResidualMemory
) -> tuple[torch.Tensor, torch.Tensor]:
    """`tophash_prompts` for prompts joined in one row: activations (N, D), cu_seqlens (B+1,) int32, where each
    begins."""
    return ops.tophash_pooled(activations, cu_seqlens, memory.background, memory.permutation, memory.top_k)


def last_only(prompt_mask: torch.Tensor) -> torch.Tensor:
    """(B, T) bool: the mask with only the last True of each row kept."""
    later = prompt_mask.flip(1).cumsum(1).flip(1)
    return prompt_mask & (later == 1)


def mean_features(activations: torch.Tensor, prompt_mask: torch.Tensor) -> torch.Tensor:
    """(B, D) float32: the mean over each row's prompt tokens. The background is the mean of these over unrelated
    prompts."""
    weight = prompt_mask.to(torch.float32).unsqueeze(-1)
    return (activations.float() * weight).sum(1) / weight.sum(1)
