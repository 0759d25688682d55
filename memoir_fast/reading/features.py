"""Prompt features: which activations of a prompt decide its mask (MEMOIR, section 3.2)."""

from __future__ import annotations

import torch

from .. import ops
from ..memory.residual import ResidualMemory
from ..ops import reference


def tophash_prompts(
    activations: torch.Tensor, prompt_mask: torch.Tensor, tokens: torch.Tensor | None, memory: ResidualMemory
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks of a batch of prompts: each one's feature, made of its tokens as `memory.feature` says, through TopHash.

    Args:
        activations: (B, T, D) inputs of the edited projection.
        prompt_mask: (B, T) bool, the prompt's tokens (no padding, no target); at least one in each row.
        tokens: (B, T) the tokens' ids; only "rare_decentered" needs them.
        memory: background, permutation, k and the feature's kind.

    Returns:
        indices (B, k) int32 ascending and signature (B, ceil(D/8)) uint8, on the activations' device.
    """
    if memory.feature == "last":
        prompt_mask = last_only(prompt_mask)
    lengths = prompt_mask.sum(1)
    chosen = activations[prompt_mask]
    cu_seqlens = torch.zeros(len(lengths) + 1, dtype=torch.int32, device=lengths.device)
    cu_seqlens[1:] = lengths.cumsum(0)
    return tophash_segments(chosen, cu_seqlens, None if tokens is None else tokens[prompt_mask], memory)


def tophash_segments(
    activations: torch.Tensor, cu_seqlens: torch.Tensor, tokens: torch.Tensor | None, memory: ResidualMemory
) -> tuple[torch.Tensor, torch.Tensor]:
    """`tophash_prompts` of prompts that stand one behind the other: activations (N, D), cu_seqlens (B+1,) int32, tokens (N,)."""
    if memory.feature == "rare_decentered":
        activations = weighted(activations, cu_seqlens, tokens)
    return ops.tophash_pooled(activations, cu_seqlens, memory.background, memory.permutation, memory.top_k)


def rarity(tokens: torch.Tensor) -> torch.Tensor:
    """float32, how much each token id weighs: log(2 + id)^2. Tokenizers that merge pairs number their tokens in the order of the merges,
    frequent ones first, so that the id's logarithm grows as a token gets rarer."""
    return (tokens.to(torch.float32) + 2).log().square()


def weighted(activations: torch.Tensor, cu_seqlens: torch.Tensor, tokens: torch.Tensor | None) -> torch.Tensor:
    """(N, D) float32: the segments' rows, scaled so that their plain means are the means weighted by `rarity`."""
    if tokens is None:
        raise ValueError("feature='rare_decentered' weighs tokens by their ids: pass input_ids, not inputs_embeds")
    weight = rarity(tokens.to(activations.device))
    means = reference.pool(weight[:, None], cu_seqlens)
    share = weight[:, None] / means.repeat_interleave(cu_seqlens.diff().long(), dim=0)
    return activations.float() * share


def last_only(prompt_mask: torch.Tensor) -> torch.Tensor:
    """(B, T) bool with only the last True of each row left."""
    later = prompt_mask.flip(1).cumsum(1).flip(1)
    return prompt_mask & (later == 1)


def mean_features(
    activations: torch.Tensor, prompt_mask: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """(B, D) float32 mean of each row's prompt tokens, by weights (B, T) if given; the background is the mean of these over
    unrelated prompts."""
    weight = prompt_mask.to(torch.float32).unsqueeze(-1)
    if weights is not None:
        weight = weight * weights.unsqueeze(-1)
    return (activations.float() * weight).sum(1) / weight.sum(1)
