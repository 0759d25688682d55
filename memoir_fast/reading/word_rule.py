"""The word rule: a query reads the edit that it most likely asks for, if that is likely enough."""

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
    """Decides by the stored edits' keys and one threshold.

    Args:
        keys: the active edits' wordings.
        threshold: the score from which an edit is read.
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
        """A rule with new keys and a new threshold; arguments as for `Keys` and `WordThreshold`."""
        keys = Keys(matcher, wordings_of)
        return cls(keys, WordThreshold(keys, fixed, unrelated, rate))

    def added(self, edits: Iterable[int], signatures: np.ndarray) -> None:
        """Edits became active; for `SignatureIndex.listen`."""
        self.keys.added(edits, signatures)
        self.threshold.added(edits, signatures)

    def removed(self, edits: Iterable[int]) -> None:
        """Edits are no longer active."""
        self.keys.removed(edits)
        self.threshold.removed(edits)

    def queries(
        self, hidden: torch.Tensor, tokens: torch.Tensor, kept: torch.Tensor | None, prompt_mask: torch.Tensor | None
    ) -> tuple[list[PromptCode], list[int]]:
        """The codes of B prompts, and for each the column after its last word; arguments as
        `Router.decide_by_words`."""
        ids, keeps, masks = _as_lists(tokens, kept, prompt_mask)
        reader = self.keys.matcher.reader
        prompts, ends = [], []
        for row, line in enumerate(ids):
            places = [i for i, real in enumerate(keeps[row]) if real] if keeps is not None else list(range(len(line)))
            if not places:
                places = [0]
            first, end = places[0], places[-1] + 1  # padding is at the ends only
            span = None
            if masks is not None:
                routing = [i - first for i in range(first, end) if masks[row][i]]
                span = (routing[0], routing[-1] + 1) if routing else None
            span = span or reader.user_span(line[first:end])
            prompts.append((line[first:end], hidden[row, first:end], span))
            ends.append(first + span[1])
        return [code for _, code in self.keys.matcher.read_all(prompts)], ends

    def best(self, query: PromptCode, admitted: Collection[int] | None = None) -> tuple[int, float]:
        """The edit that a query reads (-1 for none), and the score of the likeliest edit. admitted: see
        `Keys.ranked`."""
        first = self.keys.best(query, admitted)
        return self.read([] if first is None else [first])

    def read(self, ranked: list[Match]) -> tuple[int, float]:
        """The same, for a query that was already looked up with `Keys.ranked`."""
        if not ranked:
            return -1, 0.0
        first = ranked[0]
        return (first.edit if first.score >= self.threshold.value else -1), first.score


def _as_lists(tokens: torch.Tensor, *masks: torch.Tensor | None) -> tuple[Any, ...]:
    """Tensors of one shape as lists, copied together because each copy from a GPU waits for it."""
    given = [tokens, *(mask.to(tokens.device, tokens.dtype) for mask in masks if mask is not None)]
    lists = iter(torch.stack(given).tolist())
    return (next(lists), *(None if mask is None else next(lists) for mask in masks))
