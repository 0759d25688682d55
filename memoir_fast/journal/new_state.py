"""A new, empty memory for a model, with its background, contexts and calibration measured."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

from ..base.causal_lm import evaluating
from ..base.fingerprint import measured_key
from ..base.projection import Target
from ..base.running import device_of
from ..config import MemoirConfig
from ..editing.update_rule import rule_of, settled
from ..memory.residual import ResidualMemory
from ..reading.background import BackgroundTexts, background_of, calibration_of, texts_of
from ..reading.router import Router
from ..text.contexts import make_contexts
from ..text.encoder import Encoder
from .connect import measured_words
from .memory_state import MemoryState
from .volatile import VolatileJournal


def new_memory(config: MemoirConfig, target: Target, permutation: torch.Tensor | None) -> ResidualMemory:
    """An empty memory for a projection.

    Args:
        config: with `top_k` resolved.
        permutation: (D,) int32; drawn with `config.seed` when None.

    Raises:
        ValueError: as `ResidualMemory`, or a setting does not suit the update rule.
    """
    assert config.top_k is not None
    if permutation is None:
        permutation = torch.randperm(target.in_features, generator=torch.Generator().manual_seed(config.seed))
    memory = ResidualMemory(target.in_features, target.out_features, config.top_k, permutation, config.page_edits or 0)
    memory.feature = config.feature
    settled(config)  # refuses bad settings now rather than at the first edit
    if rule_of(config).tracks:
        memory.track()
    return memory


def new_state(
    model: nn.Module,
    encoder: Encoder,
    router: Router,
    config: MemoirConfig,
    fingerprint: dict[str, Any],
    background: Any,
    depth: int | None,
) -> MemoryState:
    """Measure what a new memory needs. The model is attached to `router`, whose memory gets its background here.

    Args:
        config: resolved settings.
        fingerprint: the base model's.
        background: `BackgroundTexts`, the path of a JSONL file, None for the package's own texts, or the background
            itself, (D,) float.
        depth: the early tap's layer, see `connect.depth_for`; None with router="mask".

    Raises:
        TypeError, ValueError: the background is not accepted; see `texts_of` and `background_of`.
    """
    given = background if isinstance(background, torch.Tensor) else None
    texts: BackgroundTexts = texts_of(None if given is not None else background)
    if given is None and background is not None:
        for common in texts.one_kind():
            warnings.warn(f"background: {common}. Add prompts like all that your users send", stacklevel=5)
    memory = router.memory
    memory.background.copy_(
        background_of(model, router, encoder, texts, config, measured_key(model, fingerprint), given)
    )
    width = memory.index.width
    masks = depth is None  # otherwise they are not needed, and each would cost a pass up to the projection
    calibration = calibration_of(model, router, encoder, texts, config) if masks else np.zeros((0, width), np.uint8)
    with router.disabled(), evaluating(model):
        contexts = make_contexts(model, encoder.tokenizer, device_of(model))
    words = None if depth is None else measured_words(model, router, encoder, config, depth, texts, fingerprint)
    return MemoryState(config, fingerprint, memory, contexts, calibration, VolatileJournal(memory), words)
