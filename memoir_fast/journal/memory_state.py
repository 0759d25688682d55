"""What a model needs from a memory, whether new, loaded from a folder or opened from a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..config import MemoirConfig
from ..memory.residual import ResidualMemory
from .journal import Journal

WORDS = "words."  # the prefix, in files, of the names in `MemoryState.words`


@dataclass
class MemoryState:
    """A memory with everything that belongs to it.

    Attributes:
        config: its settings, with the projection's path and k resolved.
        fingerprint: the base model's, see `base/fingerprint.py`.
        memory: the residual memory.
        contexts: the short texts that edits are trained behind, see `text/contexts.py`.
        calibration: (m, ceil(D/8)) uint8, the unrelated prompts' signatures that thresholds are made from.
        journal: keeps its edits.
        words: with router="tokens", the matcher's tensors (`Matcher.state`) and "unrelated", uint8, the unrelated
            prompts' wordings; None with router="mask".
    """

    config: MemoirConfig
    fingerprint: dict[str, Any]
    memory: ResidualMemory
    contexts: list[str]
    calibration: np.ndarray
    journal: Journal
    words: dict[str, torch.Tensor] | None = None

    def measured(self) -> dict[str, torch.Tensor]:
        """What was measured for routing, as files hold it: "calibration", and `words` with the prefix `WORDS`."""
        words = {WORDS + name: tensor for name, tensor in (self.words or {}).items()}
        return {"calibration": torch.from_numpy(self.calibration), **words}


def words_among(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """`MemoryState.words` from a file's tensors; None if it holds none."""
    return {name.removeprefix(WORDS): tensor for name, tensor in tensors.items() if name.startswith(WORDS)} or None
