"""Runs a model only as far as the edited projection, or an early layer, and records the activations there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import nn

from ..base.causal_lm import evaluating
from ..base.running import device_of
from ..text.encoder import Batch, Sequence, pad
from .features import mean_features, tophash_prompts
from .matching.matcher import Matcher, Wording
from .matching.prompt_codes import PromptCode
from .router import Router


class _Stop(Exception):
    """Ends a forward pass, because nothing after this point is needed."""


@torch.no_grad()
def run_to_projection(model: nn.Module, router: Router, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """One forward pass over `inputs` in eval mode without the memory, stopped at the projection.

    Returns:
        the projection's input (R, T, D) or (R*T, D) and its output, in the shapes that the model uses.

    Raises:
        ValueError: the forward pass does not reach the projection.
    """
    seen: list[torch.Tensor] = []

    def tap(projection: nn.Module, x: torch.Tensor, out: torch.Tensor) -> NoReturn:
        seen.extend((x, out))
        raise _Stop

    with router.tapped(tap), evaluating(model), contextlib.suppress(_Stop):
        model(**inputs)
    if not seen:
        raise ValueError(
            "layer: the model's forward pass never reaches the edited projection: it does not run for every token, or its decoder layer was "
            "compiled by itself (compile the whole model instead)"
        )
    return seen[0], seen[1]


def passes(
    model: Any, router: Router, sequences: list[Sequence], batch_size: int
) -> Iterator[tuple[torch.Tensor, Batch]]:
    """(projection inputs (B, T, D), the `Batch`) for the sequences, batch by batch. Raises as `run_to_projection`."""
    for start in range(0, len(sequences), batch_size):
        batch = pad(sequences[start : start + batch_size], device_of(model))
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
        activations, _ = run_to_projection(model, router, inputs)
        yield activations.reshape(*batch.input_ids.shape, -1), batch


@torch.no_grad()
def early_states(
    model: Any, router: Router, sequences: list[Sequence], batch_size: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """(number, (T, d) input of the early decoder layer) of each sequence, in batches, short ones first.

    The layers from the early one on do not run.
    """
    order = sorted(range(len(sequences)), key=lambda number: (len(sequences[number].tokens), number))
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        batch = pad([sequences[number] for number in numbers], device_of(model))
        seen: list[torch.Tensor] = []

        def tap(hidden: torch.Tensor, seen: list[torch.Tensor] = seen) -> NoReturn:
            seen.append(hidden)
            raise _Stop

        with router.tapped_early(tap), evaluating(model), contextlib.suppress(_Stop):
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        shaped = seen[0].reshape(*batch.input_ids.shape, -1)
        for line, number in enumerate(numbers):
            yield number, shaped[line, : len(sequences[number].tokens)]


def read_prompts(
    model: Any, router: Router, matcher: Matcher, sequences: list[Sequence], batch_size: int
) -> list[tuple[Wording, PromptCode]]:
    """Each sequence's routing words, as they are stored (`Wording`) and as they are compared (`PromptCode`)."""
    found: dict[int, tuple[Wording, PromptCode]] = {}
    for number, states in early_states(model, router, sequences, batch_size):
        sequence = sequences[number]
        found[number] = matcher.read(sequence.tokens, states, sequence.words)
    return [found[number] for number in range(len(sequences))]


def prompt_features(model: nn.Module, router: Router, sequences: list[Sequence], batch_size: int) -> torch.Tensor:
    """(len(sequences), D) float32: each sequence's mean projection input over its routing tokens, background
    included."""
    found = passes(model, router, sequences, batch_size)
    return torch.cat([mean_features(activations, batch.prompt_mask) for activations, batch in found])


def prompt_signatures(model: nn.Module, router: Router, sequences: list[Sequence], batch_size: int) -> torch.Tensor:
    """(len(sequences), ceil(D/8)) uint8 on the CPU: the signatures with which these prompts would be looked up."""
    parts = []
    for activations, batch in passes(model, router, sequences, batch_size):
        _, signature = tophash_prompts(activations, batch.prompt_mask, router.memory)
        parts.append(signature.cpu())
    return torch.cat(parts)
