"""Connects a router to a journal's edits, which are found by their words or by their masks."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from ..base.fingerprint import identity, measured_key
from ..base.projection import Target, layers_of
from ..config import MemoirConfig
from ..errors import StoreError
from ..reading.background import BackgroundTexts, calibration_of, texts_of
from ..reading.matching.matcher import Matcher
from ..reading.matching.token_codes import early_layer
from ..reading.measure import parted, words_of
from ..reading.probe import read_prompts
from ..reading.router import Router
from ..reading.threshold import Threshold
from ..reading.word_rule import WordRule
from ..reading.word_threshold import WordThreshold
from ..text.encoder import Encoder
from .journal import Journal
from .memory_state import MemoryState
from .wordings import StoredWordings


def depth_for(model: Any, target: Target, state: MemoryState | None, config: MemoirConfig) -> int | None:
    """The number of the decoder layer whose input the word codes are made from; None with router="mask"."""
    if config.router != "tokens":
        return None
    if state is not None and state.words is not None:
        return int(state.words["depth"])
    return min(early_layer(len(layers_of(model, target))) + 1, target.layer)


def measured_words(
    model: Any,
    router: Router,
    encoder: Encoder,
    config: MemoirConfig,
    depth: int,
    texts: BackgroundTexts,
    known: dict[str, Any] | None = None,
) -> dict[str, torch.Tensor]:
    """The tensors of a model's matcher and of the unrelated prompts; see `MemoryState.words`.

    Args:
        config: resolved settings.
        depth: see `depth_for`.
        texts: the unrelated prompts.
        known: the model's fingerprint, if it was taken already.
    """
    key = measured_key(model, identity(model, encoder.tokenizer, config.layer, known))
    return words_of(model, router, encoder, depth, texts, key, config.seed, config.batch_size)


def complete(
    state: MemoryState,
    model: Any,
    router: Router,
    encoder: Encoder,
    config: MemoirConfig,
    depth: int | None,
) -> None:
    """Measure what the settings' router needs and a stored memory lacks because it was made for the other router."""
    if depth is not None and state.words is None:
        state.words = measured_words(model, router, encoder, config, depth, texts_of(None))
    if depth is None and not len(state.calibration):
        state.calibration = calibration_of(model, router, encoder, texts_of(None), config)


def keep_rule(state: MemoryState, stored: MemoirConfig, router: str) -> None:
    """Store the router setting that a memory was just opened with, and what was measured for it, if the journal is
    writable.

    Args:
        state: the opened memory.
        stored: its settings until now.
        router: the new setting.
    """
    if router != stored.router:
        with contextlib.suppress(StoreError):  # a reader uses the setting without storing it
            state.journal.configure(stored.updated(router=router), state.measured())


def connect(
    model: Any, router: Router, encoder: Encoder, config: MemoirConfig, state: MemoryState
) -> Threshold | WordThreshold:
    """Let the router choose among the journal's edits; returns its threshold.

    Args:
        config: resolved settings.
        state: the memory, with everything measured that the settings' router needs.
    """
    memory, journal = router.memory, state.journal
    if config.router == "mask":
        threshold = Threshold(memory.index, config.threshold, state.calibration, config.false_activation_rate)
        router.connect(threshold.of, journal.tags_of)
        return threshold
    assert state.words is not None
    matcher = Matcher.from_state(state.words, encoder.tokenizer)

    def read(texts: list[str]) -> list:
        sequences = [encoder.prompt(text) for text in texts]
        return [wording for wording, _ in read_prompts(model, router, matcher, sequences, config.batch_size)]

    wordings, unrelated = StoredWordings(journal, matcher.bits, read), parted(state.words["unrelated"], matcher.bits)
    router.words = WordRule.of(matcher, wordings, config.threshold, unrelated, config.false_activation_rate)
    with memory.lock:
        wordings.prepare(memory.index.ids)
        router.words.added(memory.index.ids, memory.index.signatures())
        memory.index.listen(router.words)
    router.connect(router.words.threshold.of, journal.tags_of)
    return router.words.threshold


def hand_over(router: Router, threshold: Threshold | WordThreshold, journal: Journal) -> None:
    """Let another journal keep the edits of the router's memory from now on."""
    router.connect(threshold.of, journal.tags_of)
    if router.words is not None and isinstance(router.words.keys.wordings_of, StoredWordings):
        router.words.keys.wordings_of.journal = journal
