"""The words' rule: a query reads the edit whose stored wording it most likely asks for, if that is likely enough."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from .matching.keys import Keys, Match, Wordings
from .matching.matcher import Matcher, Wording
from .matching.prompt_codes import PromptCode
from .word_threshold import WordThreshold


class WordRule:
    """Decides by the keys of the stored edits and one threshold.

    Args:
        keys: the findable edits' wordings; threshold: the score from which an edit is read.
    """

    def __init__(self, keys: Keys, threshold: WordThreshold):
        self.keys, self.threshold = keys, threshold

    @classmethod
    def of(
        cls,
        matcher: Matcher,
        wordings_of: Callable[[int], Wordings],
        fixed: float | None,
        unrelated: Sequence[Wording],
        rate: float,
    ) -> WordRule:
        """With keys and a threshold of its own; see those for the arguments."""
        keys = Keys(matcher, wordings_of)
        return cls(keys, WordThreshold(keys, fixed, unrelated, rate))

    def added(self, edits: Iterable[int], signatures: np.ndarray) -> None:
        """Edits can be found from now on; for `SignatureIndex.listen`."""
        self.keys.added(edits, signatures)
        self.threshold.added(edits, signatures)

    def removed(self, edits: Iterable[int]) -> None:
        """Edits can be found no longer."""
        self.keys.removed(edits)
        self.threshold.removed(edits)

    def queries(
        self, hidden: torch.Tensor, tokens: torch.Tensor, kept: torch.Tensor | None, prompt_mask: torch.Tensor | None
    ) -> tuple[list[PromptCode], list[int]]:
        """What B prompts say, and the columns behind the last of their words; see `Router.decide_by_words` for the arguments."""
        ids, keeps, masks = _as_lists(tokens, kept, prompt_mask)
        reader = self.keys.matcher.reader
        prompts, ends = [], []
        for row, line in enumerate(ids):
            places = [i for i, real in enumerate(keeps[row]) if real] if keeps is not None else list(range(len(line)))
            if not places:
                places = [0]
            first, end = places[0], places[-1] + 1  # padding stands at the ends only
            span = None
            if masks is not None:
                routing = [i - first for i in range(first, end) if masks[row][i]]
                span = (routing[0], routing[-1] + 1) if routing else None
            span = span or reader.user_span(line[first:end])
            prompts.append((line[first:end], hidden[row, first:end], span))
            ends.append(first + span[1])
        return [code for _, code in self.keys.matcher.read_all(prompts)], ends

    def best(self, query: PromptCode, admitted: Collection[int] | None = None) -> tuple[int, float]:
        """The edit that a query reads (-1 for none), and the likeliest edit's score."""
        first = self.keys.best(query, admitted)
        return self.read([] if first is None else [first])

    def read(self, ranked: list[Match]) -> tuple[int, float]:
        """The same for a query that was looked up already (`Keys.ranked`)."""
        if not ranked:
            return -1, 0.0
        first = ranked[0]
        return (first.edit if first.score >= self.threshold.value else -1), first.score


def _as_lists(tokens: torch.Tensor, *masks: torch.Tensor | None) -> tuple[Any, ...]:
    """Tensors of one shape as lists; from a GPU they come together, since each copy waits for it."""
    given = [tokens, *(mask.to(tokens.device, tokens.dtype) for mask in masks if mask is not None)]
    lists = iter(torch.stack(given).tolist())
    return (next(lists), *(None if mask is None else next(lists) for mask in masks))
