"""Lays an edit's token sequences out for one forward pass: as padded rows, or packed into a single row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..text.encoder import Sequence


@dataclass(frozen=True)
class Layout:
    """The n tokens of one or more edits inside a forward pass over R rows of T positions.

    The last token of each sequence is left out: it predicts nothing, so it gets no gradient.

    Attributes:
        inputs: keyword arguments of the model's forward pass.
        shape: (R, T).
        tokens: (n,) flat positions (row * T + column) of the real tokens.
        sequences: (n,) the number of each token's sequence, ascending.
        positions: (n,) each token's place in its sequence.
        aims: (m,) which of the n tokens predict a target token, as indices into `tokens`.
        acting: (a,) which of the n tokens the memory acts at, as ascending indices into `tokens`.
        words: per edit, (w,) flat positions of the prompt's tokens in its identity sequence; they make the mask.
        parts: per edit, its slice of `acting`.
        owners: (m,) the edit that each target token belongs to.
        targets: (m,) flat positions that predict a target token.
        labels: (m,) the target tokens.
        weights: (m,) float32. An edit's loss is the weighted sum of its cross entropies: the mean over a sequence's n
            target tokens (with `counted`, their sum divided by n + counted), then the mean over sequences.
    """

    inputs: dict[str, Any]
    shape: tuple[int, int]
    tokens: torch.Tensor
    sequences: torch.Tensor
    positions: torch.Tensor
    aims: torch.Tensor
    acting: torch.Tensor
    words: list[torch.Tensor]
    parts: list[slice]
    owners: torch.Tensor
    targets: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor


def lay_out(
    edits: list[list[Sequence]], packed: bool, device: torch.device, counted: int = 0, acts: str = "all"
) -> Layout:
    """The layout of some edits' sequences. The first sequence of an edit is its identity, whose prompt makes the mask.

    Args:
        edits: per edit, its sequences.
        packed: one row for all sequences; otherwise one padded row each. device: where the tensors go.
        counted: added to a sequence's number of target tokens when its loss is averaged; 1 as the authors count.
        acts: at which tokens the memory acts, see `MemoirConfig.acts`.
    """
    sequences = [sequence for edit in edits for sequence in edit]
    lengths = [len(s.tokens) - 1 for s in sequences]
    width = sum(lengths) if packed else max(lengths)
    starts = [sum(lengths[:i]) if packed else i * width for i in range(len(sequences))]
    rows = 1 if packed else len(sequences)
    input_ids = torch.zeros(rows * width, dtype=torch.int64)
    position_ids = torch.zeros(rows * width, dtype=torch.int64)
    tokens, aims, owners, targets, labels, weights, words = [], [], [], [], [], [], []
    acting, parts = _acting(edits, acts)
    number = seen = 0
    for owner, edit in enumerate(edits):
        words.append(torch.arange(*edit[0].words) + starts[number])
        for sequence in edit:
            start, length = starts[number], lengths[number]
            input_ids[start : start + length] = torch.tensor(sequence.tokens[:-1])
            position_ids[start : start + length] = torch.arange(length)
            tokens.append(torch.arange(start, start + length))
            answer = sequence.tokens[sequence.prompt_length :]
            number, seen = number + 1, seen + length
            aims.append(torch.arange(seen - len(answer), seen))
            targets.append(torch.arange(start + length - len(answer), start + length))
            owners.append(torch.full((len(answer),), owner))
            labels.append(torch.tensor(answer))
            weights.append(torch.full((len(answer),), 1.0 / ((len(answer) + counted) * len(edit))))
    inputs: dict[str, Any] = {"input_ids": input_ids.view(rows, width).to(device), "use_cache": False}
    if packed:
        # Without an attention_mask, transformers takes a restart of the positions for the start of a packed sequence.
        inputs["position_ids"] = position_ids.view(rows, width).to(device)
    else:
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])  # causality hides the padding, at the right

    def join(part: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(part).to(device)

    return Layout(
        inputs,
        (rows, width),
        tokens=join(tokens),
        sequences=torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).to(device),
        positions=torch.cat([torch.arange(length) for length in lengths]).to(device),
        aims=join(aims),
        acting=join(acting),
        words=[part.to(device) for part in words],
        parts=parts,
        owners=join(owners),
        targets=join(targets),
        labels=join(labels),
        weights=join(weights),
    )


def _acting(edits: list[list[Sequence]], acts: str) -> tuple[list[torch.Tensor], list[slice]]:
    """Per sequence, the tokens at which the memory acts, as indices into all tokens; and per edit, its slice of
    them."""
    places, parts, seen, taken = [], [], 0, 0
    for edit in edits:
        first = taken
        for sequence in edit:
            length = len(sequence.tokens) - 1
            silent = min(sequence.begin, length) if acts == "answer" else 0
            places.append(torch.arange(seen + silent, seen + length))
            seen, taken = seen + length, taken + length - silent
        parts.append(slice(first, taken))
    return places, parts


def packing_pays(sequences: list[Sequence], layer_parameters: int, hidden: int) -> bool:
    """True when one packed row takes fewer operations per layer than padded rows.

    A token costs 2 operations per layer parameter, plus a score and a value product (4 `hidden` operations) with each
    position of its row.
    """
    lengths = [len(s.tokens) - 1 for s in sequences]
    total, padded = sum(lengths), len(lengths) * max(lengths)
    packed_cost = total * (2 * layer_parameters + 4 * total * hidden)
    padded_cost = padded * (2 * layer_parameters + 4 * max(lengths) * hidden)
    return packed_cost < padded_cost
