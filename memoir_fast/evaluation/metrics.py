"""Measures what an edited model gets right. Each score has a named protocol."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch

from ..text.answers import first_sentence
from ..text.encoder import pad

if TYPE_CHECKING:
    from ..model import MemoirModel

_ROWS = 64  # of logits that are turned into probabilities at a time

TEACHER_FORCED = (
    "teacher-forced: share of target tokens that are the argmax given prompt and target; routed by the prompt"
)
LOCALITY = "teacher-forced: share of the answer's positions where the argmax equals the unedited model's"
FREE = "free generation: greedy; share of answers that begin with the target, whole words"
FREE_EXACT = "free generation: greedy, cut at the end of the sentence that holds the target; share of answers that are it, nothing more"
FREE_CONTAINS = "free generation: greedy, not cut; share of answers that contain the target, whole words"
FREE_ENDED = "free generation: greedy, not cut; share of answers that are the target and then end"
FREE_LOCALITY = (
    "free generation: greedy, cut at the end of the sentence; share of answers equal to the unedited model's"
)


@torch.no_grad()
def target_logits(
    model: MemoirModel, pairs: list[tuple[str, str]], progress: Callable[[int], object] | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (logits (t, V) float32, labels (t,) int64) for each (prompt, target), at the positions that predict the
    target.

    progress: called after each batch with its number of pairs. Raises ValueError as `Encoder.pair`.
    """
    size = model.config.batch_size
    chosen = "logits_to_keep" in inspect.signature(model.model.forward).parameters
    for start in range(0, len(pairs), size):
        sequences = [model.encoder.pair(prompt, target, ended=False) for prompt, target in pairs[start : start + size]]
        batch = pad(sequences, model.model.device)
        columns = (
            (batch.labels != -100).any(0).nonzero().flatten()
        )  # the output layer is the costliest one of a small model
        logits = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            prompt_mask=batch.prompt_mask,
            use_cache=False,
            **({"logits_to_keep": columns} if chosen else {}),
        ).logits
        if not chosen:
            logits = logits[:, columns]
        for row, labels in enumerate(batch.labels[:, columns]):
            aims = labels != -100
            yield logits[row, aims].float(), labels[aims]
        if progress is not None:
            progress(len(sequences))


def token_accuracy(
    model: MemoirModel, pairs: list[tuple[str, str]], progress: Callable[[int], object] | None = None
) -> list[float]:
    """Per pair, the share of target tokens that are the argmax (protocol `TEACHER_FORCED`)."""
    return [
        float((logits.argmax(-1) == labels).float().mean()) for logits, labels in target_logits(model, pairs, progress)
    ]


def predictions(
    model: MemoirModel, pairs: list[tuple[str, str]], progress: Callable[[int], object] | None = None
) -> list[list[int]]:
    """Per pair, the argmax tokens at the positions that predict the target."""
    return [logits.argmax(-1).tolist() for logits, _ in target_logits(model, pairs, progress)]


def perplexity(
    model: MemoirModel, pairs: list[tuple[str, str]], progress: Callable[[int], object] | None = None
) -> list[float]:
    """Per pair, exp of the mean negative log-likelihood of the target's tokens given the prompt."""
    return [
        math.exp(float(torch.nn.functional.cross_entropy(logits, labels)))
        for logits, labels in target_logits(model, pairs, progress)
    ]


@torch.no_grad()
def likely_share(model: MemoirModel, texts: list[str], least: float) -> list[float]:
    """Per text, the share of its tokens whose probability, given those before, is above `least`. The text itself is the
    prompt.

    The first token of a sequence has none before it and does not count, so the result is NaN for a plain text of one
    token.
    """
    found = []
    for text in texts:
        batch = pad([model.encoder.prompt(text)], model.model.device)
        logits = model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, prompt_mask=batch.prompt_mask, use_cache=False
        ).logits[0, :-1]  # fmt: skip
        parts = zip(logits.split(_ROWS), batch.input_ids[0, 1:, None].split(_ROWS), strict=True)
        chances = torch.cat([some.float().log_softmax(-1).gather(1, tokens) for some, tokens in parts])
        found.append(float((chances[batch.prompt_mask[0, 1:]] > math.log(least)).float().mean()))
    return found


def agreement(first: list[list[int]], second: list[list[int]]) -> list[float]:
    """Per pair of equally long token lists, the share of equal positions (protocol `LOCALITY`)."""
    return [sum(a == b for a, b in zip(x, y, strict=True)) / len(x) for x, y in zip(first, second, strict=True)]


def whole_answers(model: MemoirModel, prompts: list[str], max_new_tokens: int = 32) -> list[str]:
    """Free answers, greedy and not cut, up to where the model ends them or `max_new_tokens`."""
    return [text.strip() for text in model.ask(list(prompts), max_new_tokens=max_new_tokens)]


def answers(model: MemoirModel, prompts: list[str], max_new_tokens: int = 32) -> list[str]:
    """Free answers, greedy and cut at the end of the first sentence."""
    return [first_sentence(text) for text in whole_answers(model, prompts, max_new_tokens)]


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean; NaN without values."""
    values = list(values)
    return sum(values) / len(values) if values else math.nan
