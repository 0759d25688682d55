"""How an edit's token sequences are laid out in one forward pass: padded rows, or packed into a single row."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .request import Sequence


@dataclass(frozen=True)
class Layout:
    """The n tokens of an edit inside a forward pass over R rows of T positions.

    The last token of each sequence is left out: it predicts nothing, so no gradient ever reaches it.

    Attributes:
        inputs: keyword arguments of the model's forward pass.
        shape: (R, T).
        tokens: (n,) flat positions (row * T + column) of the real tokens.
        sequences: (n,) the sequence of each token, ascending; positions: (n,) its place in it.
        aims: (m,) the places among the n tokens that predict a target token.
        words: (w,) flat positions of the identity sequence's routing tokens (its prompt).
        targets: (m,) flat positions that predict a target token; labels: (m,) those tokens.
        weights: (m,) float32; the loss is the weighted sum of cross entropies (mean over a sequence's target
            tokens, then mean over sequences).
    """

    inputs: dict
    shape: tuple[int, int]
    tokens: torch.Tensor
    sequences: torch.Tensor
    positions: torch.Tensor
    aims: torch.Tensor
    words: torch.Tensor
    targets: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor


def lay_out(sequences: list[Sequence], packed: bool, device) -> Layout:
    """The layout of some sequences; the first one is the identity, whose words make the mask."""
    lengths = [len(s.tokens) - 1 for s in sequences]
    width = sum(lengths) if packed else max(lengths)
    starts = [sum(lengths[:i]) if packed else i * width for i in range(len(sequences))]
    rows = 1 if packed else len(sequences)
    input_ids = torch.zeros(rows * width, dtype=torch.int64)
    position_ids = torch.zeros(rows * width, dtype=torch.int64)
    tokens, aims, targets, labels, weights = [], [], [], [], []
    for sequence, start, length in zip(sequences, starts, lengths, strict=True):
        input_ids[start : start + length] = torch.tensor(sequence.tokens[:-1])
        position_ids[start : start + length] = torch.arange(length)
        tokens.append(torch.arange(start, start + length))
        answer = sequence.tokens[sequence.prompt_length :]
        aims.append(torch.arange(len(answer)) + sum(map(len, tokens)) - len(answer))
        targets.append(torch.arange(len(answer)) + start + length - len(answer))
        labels.append(torch.tensor(answer))
        weights.append(torch.full((len(answer),), 1.0 / (len(answer) * len(sequences))))
    inputs = {"input_ids": input_ids.view(rows, width).to(device), "use_cache": False}
    if packed:
        # Positions that start again tell transformers where a packed sequence begins (no attention_mask then).
        inputs["position_ids"] = position_ids.view(rows, width).to(device)
    else:
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])  # right padding hides behind causality
    words = torch.arange(*sequences[0].words)
    sequences_of = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    positions = torch.cat([torch.arange(length) for length in lengths])
    joined = [torch.cat(part) for part in (tokens, aims, targets, labels, weights)]
    parts = [joined[0], sequences_of, positions, joined[1], words, *joined[2:]]
    return Layout(inputs, (rows, width), *(part.to(device) for part in parts))


def packing_pays(sequences: list[Sequence], layer_parameters: int, hidden: int) -> bool:
    """True when one packed row costs fewer operations than padded rows, per layer and token.

    A token costs 2 operations per layer parameter, and a score and a value product with each position of its row.
    """
    lengths = [len(s.tokens) - 1 for s in sequences]
    total, padded = sum(lengths), len(lengths) * max(lengths)
    packed_cost = total * (2 * layer_parameters + 4 * total * hidden)
    padded_cost = padded * (2 * layer_parameters + 4 * max(lengths) * hidden)
    return packed_cost < padded_cost
