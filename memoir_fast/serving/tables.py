"""What a serving process needs of a memory, as named tensors: in a checkpoint at the start, in a file of its own at each refresh."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from safetensors.torch import save

from ..reading.matching.demands import offers
from ..reading.threshold import Threshold
from ..store import Store

PREFIX = "memoir."
NAMES = ("V", "background", "permutation", "ids", "signatures", "scale", "threshold", "tags", "words", "keys", "rate")


def tables_of(store: Store) -> dict[str, torch.Tensor]:
    """The present edits of a store.

    Returns:
        `memoir.V` (P * D, d) float32, the rows of P pages, `.background` (D,) float32, `.permutation` (D,) int32, `.ids` (n,) int64, `.signatures` (n, bytes)
        uint8, `.scale` (1,) float64, `.tags` uint8: JSON text, id -> tags. Where masks route, `.threshold` (n,) float64, one for each
        edit, and the rest empty. Where words route, `.threshold` is empty, `.words` uint8 the matcher (a safetensors file), `.keys` uint8
        JSON text, id -> the edit's wordings, and `.rate` (2,) float64: the user's threshold, or NaN, and the false-activation rate.

    Raises:
        ValueError: words route, but an edit's record does not say what its wordings are.
    """
    return {PREFIX + "V": store.memory.V.detach().cpu().contiguous(), **beside_pages(store)}


def beside_pages(store: Store) -> dict[str, torch.Tensor]:
    """`tables_of` without `memoir.V`. Raises as that."""
    memory, config = store.memory, store.manifest.config
    signatures = memory.index.signatures()
    tags = {str(edit): store.state.tags[edit] for edit in memory.index.ids if store.state.tags[edit]}
    found = {
        "background": memory.background,
        "permutation": memory.permutation,
        "ids": torch.tensor(memory.index.ids, dtype=torch.int64),
        "signatures": torch.from_numpy(signatures),
        "scale": torch.tensor([memory.scale], dtype=torch.float64),
        "tags": _text(json.dumps(tags)),
        **(_masks(store) if config.router == "mask" else _words(store)),
    }
    return {PREFIX + name: found[name].detach().cpu().contiguous() for name in NAMES if name in found}


def _masks(store: Store) -> dict[str, torch.Tensor]:
    index, config = store.memory.index, store.manifest.config
    threshold = Threshold(index, config.threshold, store.calibration.numpy(), config.false_activation_rate)
    nothing = torch.zeros(0, dtype=torch.uint8)
    return {"threshold": torch.from_numpy(threshold.of(index.ids)), "words": nothing, "keys": nothing,
            "rate": torch.zeros(0, dtype=torch.float64)}  # fmt: skip


def _words(store: Store) -> dict[str, torch.Tensor]:
    config, keys = store.manifest.config, {}
    for edit in store.memory.index.ids:
        header: dict[str, Any] = store.state.entries[edit].header
        if not header.get("codes") or store.words is None:
            raise ValueError(
                f"store: edit {edit} was made while masks routed, so its record does not say what its wordings are: make the edit again, or open "
                "the store with router='mask', which a store keeps, and export it then"
            )
        asked = 1 + len(header.get("rephrasings", []))
        keys[str(edit)] = [
            header["codes"][:asked],
            header["codes"][asked:],
            header.get("subject", ""),
            offers(header["target"]),
        ]
    fixed = math.nan if config.threshold is None else config.threshold
    matcher = {name: tensor.contiguous() for name, tensor in (store.words or {}).items()}
    return {
        "threshold": torch.zeros(0, dtype=torch.float64),
        "words": torch.frombuffer(bytearray(save(matcher)), dtype=torch.uint8),
        "keys": _text(json.dumps(keys)),
        "rate": torch.tensor([fixed, config.false_activation_rate], dtype=torch.float64),
    }


def _text(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
