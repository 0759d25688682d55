"""The words' rule in a serving process: the same keys, matcher and threshold as in the Hugging Face path."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load

from ...reading.matching.keys import Keys, Wordings
from ...reading.matching.matcher import Matcher, Wording
from ...reading.measure import parted
from ...reading.word_rule import WordRule
from ...reading.word_threshold import WordThreshold
from ..tables import PREFIX


class ServedWords:
    """Follows the tables that a process loads: only what has changed since the last one is read anew.

    Args:
        tokenizer: the served model's.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self._codes: dict[int, list[Any]] = {}
        self.rule: WordRule | None = None

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take the edits of a table, as `tables_of` makes it, for the look-ups from now on."""
        codes = json.loads(bytes(tensors[PREFIX + "keys"].numpy()).decode())
        fixed, rate = tensors[PREFIX + "rate"].tolist()
        before, self._codes = self._codes, {int(edit): kept for edit, kept in codes.items()}
        if self.rule is None:
            state = load(bytes(tensors[PREFIX + "words"].numpy()))
            matcher = Matcher.from_state(state, self._tokenizer)
            keys = Keys(matcher, self._wordings)
            self.rule = WordRule(keys, WordThreshold(keys, None, parted(state["unrelated"], matcher.bits), rate))
        keys, threshold = self.rule.keys, self.rule.threshold
        gone = [edit for edit in before if edit not in self._codes]
        new = sorted(edit for edit in self._codes if edit not in before)
        for listener in (keys, threshold):
            listener.removed(gone)
        for listener in (keys, threshold):
            listener.added(new, np.empty(0))
        threshold.fixed = None if math.isnan(fixed) else fixed
        if threshold.rate != rate:
            threshold.rate = rate
            threshold.recount()

    def decide(
        self,
        tokens: Sequence[int],
        hidden: torch.Tensor,
        span: tuple[int, int] | None,
        admitted: Collection[int] | None,
    ) -> tuple[int, float]:
        """The edit that a prompt reads (-1 for none) and the likeliest one's score. hidden: (T, d) input of the early layer."""
        assert self.rule is not None
        _, code = self.rule.keys.matcher.read(list(tokens), hidden, span)
        return self.rule.best(code, admitted)

    def _wordings(self, edit: int) -> Wordings:
        asked, kept_out, subject = self._codes[edit]
        bits = self._bits
        return Wordings(
            [Wording.unpacked(one, bits) for one in asked], [Wording.unpacked(one, bits) for one in kept_out], subject
        )

    @property
    def _bits(self) -> int:
        assert self.rule is not None
        return self.rule.keys.matcher.bits
