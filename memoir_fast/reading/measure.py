"""Measures what the word rule needs from a model, on the background texts: a whitening of early activations, and words'
rarity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from ..base import files
from ..base.causal_lm import evaluating, text_config
from ..base.loading import cache_folder, dtype_name, kept_tensors
from ..base.running import device_of
from ..text.batch import Sequence, pad
from ..text.encoder import Encoder
from .background import BackgroundTexts
from .matching.matcher import Matcher, Wording
from .matching.token_codes import TokenCoder, WordRarity
from .matching.words import WordReader
from .probe import early_states, read_prompts
from .router import Router

# Part of the cache file's name; raised when what is measured changes.
VERSION = 2
_LOGITS = 1 << 25  # held at a time: 128 MB in float32
NAMES = {"coder.mean", "coder.transform", "log_probabilities", "depth", "unrelated"}


def words_of(
    model: Any,
    router: Router,
    encoder: Encoder,
    depth: int,
    texts: BackgroundTexts,
    key: str,
    seed: int,
    batch_size: int,
) -> dict[str, torch.Tensor]:
    """The tensors of a model's matcher (`Matcher.state`) and "unrelated", uint8, the unrelated prompts' wordings (see
    `parted`).

    They are kept in the user's cache under `key`.

    Args:
        router: attached to the model, with its early tap at `depth`.
        depth: the number of decoder layers that run before the activations are coded.
        texts: the background texts.
        key: the base model's digest.
        seed: of the rotation of wide models' codes.
    """
    everything = [*texts.for_mean, *texts.for_threshold]
    digest = hashlib.sha256("\n".join(everything).encode()).hexdigest()[:16]
    path = cache_folder() / "matcher" / f"{key}-{dtype_name(model)}-{digest}-{depth}-{seed}-{VERSION}.safetensors"
    if (kept := kept_tensors(path, NAMES)) is not None:
        return kept
    plain = Encoder(encoder.tokenizer, chat_template=False, max_length=encoder.max_length)
    sequences = [plain.prompt(text) for text in everything]
    special = WordReader(encoder.tokenizer).special
    rows = []
    for number, states in early_states(model, router, sequences, batch_size):
        tokens = sequences[number].tokens
        rows.append(states[[p for p, token in enumerate(tokens) if p > 0 and token not in special]].float().cpu())
    coder = TokenCoder.fit(torch.cat(rows), seed=seed)
    matcher = Matcher(encoder.tokenizer, depth, coder, _next_tokens(model, router, sequences, batch_size))
    made = {**matcher.state(), "unrelated": joined(unrelated_of(model, router, matcher, texts, batch_size))}
    files.replace_shared(path, save(made))
    return made


def unrelated_of(
    model: Any, router: Router, matcher: Matcher, texts: BackgroundTexts, batch_size: int
) -> list[Wording]:
    """The unrelated prompts' wordings, read as plain text, for calibrating the threshold."""
    plain = Encoder(matcher.reader.tokenizer, chat_template=False)
    sequences = [plain.prompt(text) for text in texts.for_threshold]
    return [wording for wording, _ in read_prompts(model, router, matcher, sequences, batch_size)]


@torch.no_grad()
def _next_tokens(model: Any, router: Router, sequences: list[Sequence], batch_size: int) -> torch.Tensor:
    """(V,) float32: the log of the model's mean next-token distribution over all positions of the texts."""

    def logits() -> Iterator[torch.Tensor]:
        for some in _batches(sequences, batch_size, int(text_config(model).vocab_size)):
            batch = pad(some, device_of(model))
            out = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
            for row, text in zip(out, some, strict=True):
                yield row[: len(text.tokens)]

    with router.disabled(), evaluating(model):
        return WordRarity.measure(logits())


def _batches(sequences: list[Sequence], most: int, vocabulary: int) -> Iterator[list[Sequence]]:
    """The sequences in batches of at most `most`, short ones first, whose logits take no more room than `_LOGITS` allows, or those of a single
    sequence do."""
    some: list[Sequence] = []
    for sequence in sorted(sequences, key=lambda one: len(one.tokens)):
        if some and (len(some) == most or (len(some) + 1) * len(sequence.tokens) * vocabulary > _LOGITS):
            yield some
            some = []
        some.append(sequence)
    if some:
        yield some


def joined(wordings: list[Wording]) -> torch.Tensor:
    """Wordings as one uint8 tensor, a line of text each, for files."""
    return torch.frombuffer(bytearray("\n".join(one.packed() for one in wordings).encode()), dtype=torch.uint8)


def parted(tensor: torch.Tensor, bits: int) -> list[Wording]:
    """The inverse of `joined`. Raises ValueError for a malformed tensor."""
    text = np.asarray(tensor).tobytes().decode("ascii", "replace")
    return [Wording.unpacked(line, bits) for line in text.split("\n") if line]
