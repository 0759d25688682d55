"""The word rule's threshold: the score from which a query reads an edit, set from prompts that must read none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .matching.keys import MATTERS, Keys
from .matching.matcher import Wording
from .matching.prompt_codes import PromptCode
from .promise import allowed, bound

# The lowest calibrated threshold, chosen by a sweep over the sets of questions in docs/results.md and near misses of classes that the network was
# fitted without.
LEAST = 0.49
# From this score on, an "unrelated" prompt counts as asking the edit's own question, so it is left out.
SAME_QUESTION = 0.9


class WordThreshold:
    """One threshold for all edits, fixed by the user, or calibrated and kept calibrated as edits change.

    A calibrated threshold is at least `LEAST`, and so high that at most the share `rate` of the m unrelated prompts
    would read an edit. By conformal prediction, a further prompt of the same kind then reads one with a chance of at
    most `rate`, on average over calibrations. A single set of m prompts can be lucky; `bound` is what holds with 95 %
    confidence. Unrelated prompts that turn out to ask a stored edit's own question are left out and counted.

    The caller holds the memory's lock.

    Args:
        keys: the stored edits' wordings. They must get changes of the index before this threshold does.
        fixed: the user's threshold, or None to calibrate.
        unrelated: m prompts that must not read an edit.
        rate: the wanted false-activation rate, 0..1.

    Source: this library's; conformal prediction (Vovk et al., 2005; Vovk, 2012).
    """

    def __init__(self, keys: Keys, fixed: float | None, unrelated: Sequence[Wording], rate: float):
        self.keys, self.fixed, self.rate = keys, fixed, rate
        self.of_others(unrelated)

    def of_others(self, unrelated: Sequence[Wording]) -> None:
        """Use other unrelated prompts from now on."""
        self.unrelated = list(unrelated)
        codes = [self.keys.matcher.code(one) for one in unrelated]
        self._queries: list[PromptCode] = [code for code in codes if code is not None and len(code)]
        self._holding: dict[int, list[int]] = {}  # word -> the unrelated prompts that contain it
        for number, code in enumerate(self._queries):
            for word in set(code.word[code.weight > MATTERS].tolist()):
                self._holding.setdefault(word, []).append(number)
        self._largest = np.zeros(len(self._queries))
        self._edits = np.full(len(self._queries), -1)
        self._calibrated: float | None = None
        self._new: dict[int, None] = {}  # active edits that are not compared yet
        self._lost: set[int] = set()  # unrelated prompts whose likeliest edit is gone
        self.recount()

    def added(self, edits: Iterable[int], signatures: np.ndarray) -> None:
        """Edits became active. They are compared when the threshold is next needed, with the keys' state at that
        time."""
        self._new.update(dict.fromkeys(map(int, edits)))
        self._calibrated = None

    def removed(self, edits: Iterable[int]) -> None:
        """Edits are no longer active."""
        gone = set(map(int, edits))
        self._lost.update(np.flatnonzero(np.isin(self._edits, list(gone))).tolist())
        for edit in gone & self._new.keys():
            del self._new[edit]
        self._calibrated = None

    def recount(self) -> None:
        """Start again from all stored edits."""
        self._new, self._lost, self._calibrated = {}, set(range(len(self._queries))), None

    def calibrate(self, rate: float) -> None:
        """Calibrate for this rate from now on; a fixed threshold is dropped."""
        self.fixed, self.rate, self._calibrated = None, rate, None

    @property
    def value(self) -> float:
        """The score from which an edit is read."""
        if self.fixed is not None:
            return self.fixed
        self.settle()
        if self._calibrated is None:
            self._calibrated = self._conformal()
        return self._calibrated

    @property
    def median(self) -> float:
        """The same as `value`, since all edits share one threshold."""
        return self.value

    def of(self, edits: Sequence[int] | np.ndarray) -> np.ndarray:
        """(len(edits),) float64: each edit's threshold, above 1 for -1 (no edit)."""
        return np.where(np.asarray(edits) < 0, 2.0, self.value)

    @property
    def largest(self) -> np.ndarray:
        """(m,) float64: each unrelated prompt's score with the edit that it most likely asks for."""
        self.settle()
        return self._largest

    @property
    def left_out(self) -> list[int]:
        """The ids of edits whose own question is among the unrelated prompts."""
        return sorted({int(edit) for edit in self._edits[self.largest >= SAME_QUESTION]})

    def false_activation_rate(self) -> float:
        """The share of the unrelated prompts that would read an edit, without those that ask its own question."""
        scores = self.largest[self.largest < SAME_QUESTION]
        return float((scores >= self.value).mean()) if len(scores) else 0.0

    def bound(self) -> float | None:
        """The false-activation rate, 0..1, that further prompts of the same kind stay below with 95 % confidence (see
        `promise.py`); None for a fixed threshold."""
        if self.fixed is not None:
            return None
        return bound(int((self.largest < SAME_QUESTION).sum()), self.rate)

    def settle(self) -> None:
        """Compare what has changed: prompts whose likeliest edit is gone with all edits, and the others with those new
        edits that share an important word with them."""
        new, lost = list(self._new), sorted(self._lost)
        self._new, self._lost = {}, set()
        for number in lost:
            found = self.keys.ranked(self._queries[number])
            self._largest[number], self._edits[number] = (found[0].score, found[0].edit) if found else (0.0, -1)
        sharing: dict[int, list[int]] = {}
        for edit in new:
            for number in {n for word in self.keys.vocabulary(edit) for n in self._holding.get(word, ())}:
                sharing.setdefault(number, []).append(edit)
        for number, edits in sharing.items():
            for edit, score in zip(edits, self.keys.scores(self._queries[number], edits), strict=True):
                if score >= self._largest[number]:
                    self._largest[number], self._edits[number] = score, edit

    def _conformal(self) -> float:
        scores = np.sort(self._largest[self._largest < SAME_QUESTION])[::-1]
        most = allowed(len(scores), self.rate)
        # Just above the highest score that must not read.
        above = float(scores[most]) + 1e-6 if most < len(scores) else 0.0
        return max(LEAST, above)
