"""The background: the mean prompt feature over unrelated texts (MEMOIR, section 3.2)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from ..base import files, json_text
from ..base.loading import cache_folder, dtype_name, kept_tensors
from ..config import MemoirConfig
from ..text.encoder import Encoder
from .probe import prompt_features, prompt_signatures
from .router import Router

MEAN_TEXTS = 100
LEAST_CALIBRATION_TEXTS = 50
SHORT_WORDS = 40  # a prompt with more words counts as a long text
ONE_KIND = 0.95  # above this share, prompts count as being of one kind


@dataclass(frozen=True)
class BackgroundTexts:
    """Unrelated prompts as (prompt, answer or ""): the first 100 make the mean, the rest calibrate the threshold.

    Raises:
        ValueError: there are no more than 100, so that none is left to calibrate with.
    """

    records: list[tuple[str, str]]

    def __post_init__(self) -> None:
        if len(self.records) <= MEAN_TEXTS:
            raise ValueError(
                f"records: got {len(self.records)} texts; the first {MEAN_TEXTS} make the mean, so more are needed to calibrate with"
            )

    @property
    def for_mean(self) -> list[str]:
        """The texts that the mean is measured on, prompt and answer joined."""
        return [f"{prompt} {answer}".rstrip() for prompt, answer in self.records[:MEAN_TEXTS]]

    @property
    def for_threshold(self) -> list[str]:
        """The prompts that thresholds are calibrated with."""
        return [prompt for prompt, _ in self.records[MEAN_TEXTS:]]

    def one_kind(self) -> list[str]:
        """What nearly all calibrating prompts have in common, as sentences; empty if they are mixed.

        A calibrated threshold holds only for prompts of the same kind. When calibrated with questions alone, locality
        on CounterFact, whose prompts are unfinished statements, was seen to fall from 0.75-0.80 to 0.37-0.49.
        """
        prompts = self.for_threshold
        asks = [prompt.rstrip().endswith("?") for prompt in prompts]
        long = [len(prompt.split()) > SHORT_WORDS for prompt in prompts]
        sides = (
            (asks, "questions", "other texts"),
            ([not one for one in asks], "no questions", "questions"),
            ([not one for one in long], f"no longer than {SHORT_WORDS} words", "long texts"),
            (long, f"longer than {SHORT_WORDS} words", "short ones"),
        )
        found = []
        for some, all_of, others in sides:
            if (share := sum(some) / len(some)) > ONE_KIND:
                found.append(
                    f"{share:.0%} of the {len(some)} prompts are {all_of}: the threshold promises nothing of {others}"
                )
        return found

    @property
    def digest(self) -> str:
        """A digest of the texts for the mean, 16 hexadecimal digits."""
        return hashlib.sha256("\n".join(self.for_mean).encode()).hexdigest()[:16]


def load_texts(path: str | Path | None = None) -> BackgroundTexts:
    """Background texts from a JSONL file.

    Args:
        path: a file whose lines have `prompt` and optionally `answer`; None takes the package's own 500 texts, 300
            questions and 200 unfinished statements.

    Raises:
        ValueError: the file cannot be read, a line is not such a record, or there are fewer than 150 (100 for the mean,
            50 for the threshold).
    """
    where_from = resources.files("memoir_fast") / "data" / "background.jsonl" if path is None else path
    records = []
    for record, where in json_text.lines(str(where_from), "background"):
        try:
            prompt, answer = record["prompt"], record.get("answer") or ""
        except (KeyError, AttributeError, TypeError):
            raise ValueError(f"{where}: expected a JSON object with a prompt") from None
        if not isinstance(prompt, str) or not prompt.strip() or not isinstance(answer, str):
            raise ValueError(f"{where}: prompt and answer must be text, prompt not empty")
        records.append((prompt, answer))
    least = MEAN_TEXTS + LEAST_CALIBRATION_TEXTS
    if len(records) < least:
        raise ValueError(f"background: {where_from} has {len(records)} texts, at least {least} are needed")
    return BackgroundTexts(records)


def texts_of(background: BackgroundTexts | str | Path | None) -> BackgroundTexts:
    """The texts themselves, or those in a file; None takes the package's own. Raises ValueError as `load_texts`."""
    return background if isinstance(background, BackgroundTexts) else load_texts(background)


def background_of(
    model: nn.Module,
    router: Router,
    encoder: Encoder,
    texts: BackgroundTexts,
    config: MemoirConfig,
    key: str,
    given: torch.Tensor | None = None,
) -> torch.Tensor:
    """(D,) float32: the background for a memory with these settings.

    Args:
        texts: the unrelated texts to measure it on.
        key: the base model's digest.
        given: (D,) float, a background to use as it is.

    Raises:
        ValueError: `given` has the wrong shape or is not finite.
    """
    memory = router.memory
    if given is not None:
        if given.shape != memory.background.shape or not torch.isfinite(given).all():
            raise ValueError(f"background must be {tuple(memory.background.shape)}, finite, got {tuple(given.shape)}")
        return given
    if not config.feature.endswith("_decentered"):
        return memory.background
    key += "-chat" if encoder.is_chat else "-plain"
    if encoder.is_chat and encoder.template_options:  # a system prompt changes the activations of the words after it
        said = json.dumps(encoder.template_options, sort_keys=True, default=repr)
        key += f"-{hashlib.sha256(said.encode()).hexdigest()[:16]}"
    if config.feature != "mean_decentered":
        key += f"-{config.feature}"
    return measure_background(model, router, encoder, texts, key, config.batch_size)


def calibration_of(
    model: nn.Module, router: Router, encoder: Encoder, texts: BackgroundTexts, config: MemoirConfig
) -> np.ndarray:
    """(m, ceil(D/8)) uint8: the signatures of the prompts that thresholds are calibrated with."""
    prompts = [encoder.prompt(text) for text in texts.for_threshold]
    return prompt_signatures(model, router, prompts, config.batch_size).numpy()


def measure_background(
    model: nn.Module, router: Router, encoder: Encoder, texts: BackgroundTexts, key: str, batch_size: int
) -> torch.Tensor:
    """(D,) float32: the mean prompt feature of the texts. It is kept in the user's cache under `key`, the model's
    digest."""
    path = cache_folder() / "background" / f"{key}-{dtype_name(model)}-{texts.digest}.safetensors"
    if (kept := kept_tensors(path, {"background"})) is not None and kept[
        "background"
    ].shape == router.memory.background.shape:
        return kept["background"]
    sequences = [encoder.prompt(text) for text in texts.for_mean]
    background = prompt_features(model, router, sequences, batch_size).mean(0).cpu()
    files.replace_shared(path, save({"background": background}))
    return background
