"""Which columns of the memory an edit writes to: its mask."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from ..memory.residual import ResidualMemory
from ..memory.update import Update
from ..reading.features import tophash_segments


def edit_masks(
    activations: torch.Tensor,
    cu_seqlens: torch.Tensor,
    memory: ResidualMemory,
    kind: str,
    without: list[Update],
    given: list[Update],
) -> tuple[torch.Tensor, np.ndarray]:
    """The masks of one or more edits: (edits, k) int32 ascending, and packed, (edits, ceil(D/8)) uint8.

    Args:
        activations: (N, D) the projection's inputs at the tokens of the edits' prompts, one prompt after the other.
        cu_seqlens: (edits + 1,) int32, where each prompt begins.
        memory: the memory as it is.
        kind: "prompt" or "spread", see `MemoirConfig.masks`.
        without, given: updates that will be taken out of the memory, and written to it, before these edits.

    Source: MEMOIR (Wang et al., NeurIPS 2025), section 3.2, for "prompt"; "spread" is this library's.
    """
    if kind == "prompt":
        indices, signatures = tophash_segments(activations, cu_seqlens.to(activations.device), memory)
        return indices, signatures.cpu().numpy()
    uses = memory.index.uses()
    for updates, change in ((without, -1), (given, 1)):
        for update in updates:
            uses[update.rows.cpu().numpy()] += change
    bounds = cu_seqlens.tolist()
    strengths = [_strength(activations[start:end], memory) for start, end in pairwise(bounds)]
    chosen = spread(np.stack(strengths), uses, memory.top_k)
    bits = np.zeros((len(chosen), memory.in_features), np.uint8)
    np.put_along_axis(bits, chosen, 1, axis=1)
    indices = torch.from_numpy(chosen.astype(np.int32)).to(activations.device)
    return indices, np.packbits(bits, axis=1, bitorder="little")


def spread(strengths: np.ndarray, uses: np.ndarray, top_k: int) -> np.ndarray:
    """For each of b edits, in order, the columns that the fewest edits use; among those equal, the strongest. (b, k)
    int64, ascending.

    So the columns are used equally often, whatever the edits say: two edits share k^2 / D of them on average, where the
    masks of similar prompts share most.

    Args:
        strengths: (b, D) how strongly each edit's prompt speaks for a column.
        uses: (D,) how many edits use each column.
        top_k: k.
    """
    uses, chosen = uses.copy(), []
    for strength in strengths:
        columns = np.sort(np.lexsort((-strength, uses))[:top_k])
        uses[columns] += 1
        chosen.append(columns)
    return np.stack(chosen)


def _strength(activations: torch.Tensor, memory: ResidualMemory) -> np.ndarray:
    """(D,) float32: how far a prompt's feature, the mean of its tokens (n, D), is from the background, each value at the
    column to which TopHash's permutation sends it."""
    magnitude = (activations.float().mean(0) - memory.background).abs()
    strength = torch.empty_like(magnitude)
    strength[memory.permutation.long()] = magnitude
    return strength.cpu().numpy()
