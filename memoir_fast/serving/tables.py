"""What a serving process needs of a memory, as named tensors: in a checkpoint at the start, in a file of its own at each refresh."""

from __future__ import annotations

import json

import torch

from ..reading.threshold import Threshold
from ..store import Store

PREFIX = "memoir."
NAMES = ("V", "background", "permutation", "ids", "signatures", "scale", "threshold", "tags")


def tables_of(store: Store) -> dict[str, torch.Tensor]:
    """The present edits of a store.

    Returns:
        `memoir.V` (D, d) float32, `.background` (D,) float32, `.permutation` (D,) int32, `.ids` (n,) int64, `.signatures` (n, bytes)
        uint8, `.scale` (1,) and `.threshold` (n,) float64, `.tags` uint8: JSON text, id -> tags.
    """
    memory, config = store.memory, store.manifest.config
    signatures = memory.index.signatures()
    threshold = Threshold(memory.index, config.threshold, store.calibration.numpy(), config.false_activation_rate)
    tags = {str(edit): store.state.tags[edit] for edit in memory.index.ids if store.state.tags[edit]}
    found = {
        "V": memory.V,
        "background": memory.background,
        "permutation": memory.permutation,
        "ids": torch.tensor(memory.index.ids, dtype=torch.int64),
        "signatures": torch.from_numpy(signatures),
        "scale": torch.tensor([memory.scale], dtype=torch.float64),
        "threshold": torch.from_numpy(threshold.of(memory.index.ids)),
        "tags": torch.frombuffer(bytearray(json.dumps(tags).encode()), dtype=torch.uint8),
    }
    return {PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}
