"""Token sequences with the roles of their parts, and batches of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Sequence:
    """Tokens of one text, with the roles of its parts.

    Attributes:
        tokens: ids of the prompt and, in a pair, of the target and its end.
        prompt_length: the number of prompt tokens, BOS included; the target begins there.
        words: (start, end) positions of the routing tokens, by which edits are found: the whole prompt, or in a chat
            the last user's words.
    """

    tokens: list[int]
    prompt_length: int
    words: tuple[int, int]

    @property
    def begin(self) -> int:
        """The position of the last routing token; with `acts="answer"` the memory acts from there on."""
        return self.words[1] - 1

    @property
    def prompt_mask(self) -> list[bool]:
        """Per token, whether it is a routing token."""
        return [self.words[0] <= position < self.words[1] for position in range(len(self.tokens))]


@dataclass(frozen=True)
class Batch:
    """Sequences as one right-padded batch.

    Attributes:
        input_ids: (B, T) int64. Padding is on the right, where a causal model never looks.
        attention_mask: (B, T) int64, 1 for real tokens.
        prompt_mask: (B, T) bool, True for routing tokens.
        labels: (B, T) int64, the target's tokens at the positions that predict them, elsewhere -100.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    prompt_mask: torch.Tensor
    labels: torch.Tensor


def pad(sequences: list[Sequence], device: torch.device | str = "cpu") -> Batch:
    """The sequences as one batch on a device; padding has id 0."""
    shape = len(sequences), max(len(s.tokens) for s in sequences)
    input_ids = torch.zeros(shape, dtype=torch.int64)
    attention_mask = torch.zeros(shape, dtype=torch.int64)
    prompt_mask = torch.zeros(shape, dtype=torch.bool)
    labels = torch.full(shape, -100, dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        length = len(sequence.tokens)
        input_ids[row, :length] = torch.tensor(sequence.tokens)
        attention_mask[row, :length] = 1
        prompt_mask[row, :length] = torch.tensor(sequence.prompt_mask)
        labels[row, sequence.prompt_length - 1 : length - 1] = torch.tensor(sequence.tokens[sequence.prompt_length :])
    return Batch(*(t.to(device) for t in (input_ids, attention_mask, prompt_mask, labels)))
