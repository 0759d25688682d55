"""The words' rule in a serving process: the same keys, matcher and threshold as in the Hugging Face path."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load

from ...reading.matching.keys import Wordings
from ...reading.matching.matcher import Matcher
from ...reading.measure import parted
from ...reading.word_rule import WordRule
from ..tables import PREFIX


class ServedWords:
    """Follows the tables that a process loads: only what has changed since the last one is read anew.

    Args:
        tokenizer: the served model's.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self._codes: dict[int, list[Any]] = {}
        self._measured = b""
        self.rule: WordRule | None = None

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take the edits of a table, as `tables_of` makes it, for the look-ups from now on."""
        codes = json.loads(bytes(tensors[PREFIX + "keys"].numpy()).decode())
        fixed, rate = tensors[PREFIX + "rate"].tolist()
        measured = bytes(tensors[PREFIX + "words"].numpy())
        if self.rule is None or measured != self._measured:  # the first table, or calibrated with other prompts since
            state = load(measured)
            matcher = Matcher.from_state(state, self._tokenizer)
            self.rule = WordRule.of(matcher, self._wordings, None, parted(state["unrelated"], matcher.bits), rate)
            self._measured, self._codes = measured, {}
        before, self._codes = self._codes, {int(edit): kept for edit, kept in codes.items()}
        self.rule.removed([edit for edit in before if edit not in self._codes])
        self.rule.added(sorted(edit for edit in self._codes if edit not in before), np.empty(0))
        threshold = self.rule.threshold
        threshold.calibrate(rate)
        threshold.fixed = None if math.isnan(fixed) else fixed
        threshold.settle()  # now, not in the first request's pass

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

    def span(self, tokens: Sequence[int]) -> tuple[int, int]:
        """(start, end) of the words that route where a request names none."""
        assert self.rule is not None
        return self.rule.keys.matcher.reader.user_span(list(tokens))

    def _wordings(self, edit: int) -> Wordings:
        assert self.rule is not None
        asked, kept_out, subject, offered = self._codes[edit]
        return Wordings.unpacked(asked, kept_out, subject, offered, self.rule.keys.matcher.bits)
