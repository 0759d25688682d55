"""The words' rule in a serving process: the same keys, matcher and threshold as in the Hugging Face path."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load

from ...reading.matching.keys import Wordings
from ...reading.matching.matcher import Matcher
from ...reading.measure import parted
from ...reading.word_rule import WordRule
from ..tables import PREFIX


@dataclass(frozen=True)
class PreparedWords:
    """A table's words, read and checked, and not in use yet."""

    rule: WordRule
    codes: dict[int, list[Any]]
    measured: bytes
    fixed: float
    rate: float


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
        self.commit(self.prepare(tensors))

    def prepare(self, tensors: dict[str, torch.Tensor]) -> PreparedWords:
        """Read and check what `load` takes, changing nothing. Raises ValueError for a matcher or a wording that is malformed."""
        codes = {int(edit): kept for edit, kept in json.loads(bytes(tensors[PREFIX + "keys"].numpy()).decode()).items()}
        fixed, rate = tensors[PREFIX + "rate"].tolist()
        measured = bytes(tensors[PREFIX + "words"].numpy())
        rule = self.rule
        if rule is None or measured != self._measured:  # the first table, or calibrated with other prompts since
            try:
                state = load(measured)
                matcher = Matcher.from_state(state, self._tokenizer)
                rule = WordRule.of(matcher, self._wordings, None, parted(state["unrelated"], matcher.bits), rate)
            except (SafetensorError, KeyError) as error:
                raise ValueError(f"the memory's tensor {PREFIX}words is malformed ({error}): export the store again") from None  # fmt: skip
        for edit, kept in codes.items():
            if rule is not self.rule or self._codes.get(edit) != kept:
                _unpacked(edit, kept, rule.keys.matcher.bits)
        return PreparedWords(rule, codes, measured, fixed, rate)

    def commit(self, ready: PreparedWords) -> None:
        """Use what `prepare` has read."""
        before = self._codes if ready.rule is self.rule else {}
        self.rule, self._measured, self._codes = ready.rule, ready.measured, ready.codes
        # An id alone does not say which edit it is: a store that was put back or swapped has others under the same ids.
        self.rule.removed([edit for edit, kept in before.items() if self._codes.get(edit) != kept])
        self.rule.added(sorted(edit for edit, kept in self._codes.items() if before.get(edit) != kept), np.empty(0))
        threshold = self.rule.threshold
        threshold.calibrate(ready.rate)
        threshold.fixed = None if math.isnan(ready.fixed) else ready.fixed
        threshold.settle()  # now, not in the first request's pass

    def likeliest(
        self,
        tokens: Sequence[int],
        hidden: torch.Tensor,
        span: tuple[int, int] | None,
        admitted: Collection[int] | None,
    ) -> tuple[int | None, float, float]:
        """The edit that a prompt most likely asks for (None without any), its score, and the threshold. hidden: (T, d) input of the early layer."""
        assert self.rule is not None
        _, code = self.rule.keys.matcher.read(list(tokens), hidden, span)
        first = self.rule.keys.best(code, admitted)
        return (
            (None, 0.0, self.rule.threshold.value)
            if first is None
            else (first.edit, first.score, self.rule.threshold.value)
        )

    def span(self, tokens: Sequence[int]) -> tuple[int, int]:
        """(start, end) of the words that route where a request names none."""
        assert self.rule is not None
        return self.rule.keys.matcher.reader.user_span(list(tokens))

    def _wordings(self, edit: int) -> Wordings:
        assert self.rule is not None
        return _unpacked(edit, self._codes[edit], self.rule.keys.matcher.bits)


def _unpacked(edit: int, kept: Any, bits: int) -> Wordings:
    """An edit's wordings, as `tables_of` writes them; bits: B of the matcher. Raises ValueError for anything else."""
    try:
        asked, kept_out, subject, offered = kept
        if not isinstance(subject, str) or not isinstance(offered, int):
            raise TypeError("the subject or the kinds of answer")
        return Wordings.unpacked(asked, kept_out, subject, offered, bits)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the memory's tensor {PREFIX}keys is malformed for edit {edit} ({error}): export the store again") from None  # fmt: skip
