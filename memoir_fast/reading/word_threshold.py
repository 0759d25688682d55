"""The threshold of the words' rule: the score from which a query reads an edit, set from prompts that must not read any."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .matching.keys import MATTERS, Keys
from .matching.matcher import Wording
from .matching.prompt_codes import PromptCode
from .promise import allowed, bound

# What calibration starts from: chosen on generated near misses, with an eye on the rows that docs/results.md shows.
LEAST = 0.5
# An unrelated prompt that scores higher with an edit asks that edit's very question, so it is not unrelated to it.
SAME_QUESTION = 0.9


class WordThreshold:
    """One threshold for all edits, fixed by the user, or calibrated and kept so while edits come and go.

    A calibrated threshold is at least `LEAST`, and so high that of the m unrelated prompts no more than the share `rate` would read an
    edit. By conformal prediction a further prompt of the same kind then reads one with a chance of at most `rate` on average over such
    calibrations; a single set of m prompts can be lucky, and `bound` is what holds with 95 % confidence. Unrelated prompts that turn out to ask a
    stored edit's own question are left out and counted.

    Whoever uses it holds the memory's lock.

    Args:
        keys: the stored edits' wordings; listens to the same index, after them.
        fixed: the user's threshold, or None to calibrate.
        unrelated: m prompts that must not read an edit.
        rate: wanted false-activation rate, 0..1.
    """

    def __init__(self, keys: Keys, fixed: float | None, unrelated: Sequence[Wording], rate: float):
        self.keys, self.fixed, self.rate = keys, fixed, rate
        self.of_others(unrelated)

    def of_others(self, unrelated: Sequence[Wording]) -> None:
        """Take other unrelated prompts from now on."""
        self.unrelated = list(unrelated)
        codes = [self.keys.matcher.code(one) for one in unrelated]
        self._queries: list[PromptCode] = [code for code in codes if code is not None and len(code)]
        self._holding: dict[int, list[int]] = {}  # word -> the unrelated prompts that hold it
        for number, code in enumerate(self._queries):
            for word in set(code.word[code.weight > MATTERS].tolist()):
                self._holding.setdefault(word, []).append(number)
        self._largest = np.zeros(len(self._queries))
        self._edits = np.full(len(self._queries), -1)
        self._calibrated: float | None = None
        self._new: dict[int, None] = {}  # findable, and not compared yet
        self._lost: set[int] = set()  # unrelated prompts whose likeliest edit is gone
        self.recount()

    def added(self, edits: Iterable[int], signatures: np.ndarray) -> None:
        """Edits can be found from now on; they are compared when the threshold is asked for, as the keys read them then."""
        self._new.update(dict.fromkeys(map(int, edits)))
        self._calibrated = None

    def removed(self, edits: Iterable[int]) -> None:
        """Edits can be found no longer."""
        gone = set(map(int, edits))
        self._lost.update(np.flatnonzero(np.isin(self._edits, list(gone))).tolist())
        for edit in gone & self._new.keys():
            del self._new[edit]
        self._calibrated = None

    def recount(self) -> None:
        """Start again from all stored edits."""
        self._new, self._lost, self._calibrated = {}, set(range(len(self._queries))), None

    def calibrate(self, rate: float) -> None:
        """From now on calibrated, for this rate."""
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
        """The same: there is one threshold."""
        return self.value

    def of(self, edits: Sequence[int] | np.ndarray) -> np.ndarray:
        """(len(edits),) float64: the threshold of each edit; above 1 for -1 (no edit)."""
        return np.where(np.asarray(edits) < 0, 2.0, self.value)

    @property
    def largest(self) -> np.ndarray:
        """(m,) float64: each unrelated prompt's score with the edit that it is likeliest to ask for."""
        self.settle()
        return self._largest

    @property
    def left_out(self) -> list[int]:
        """The edits whose very question is among the unrelated prompts."""
        return sorted({int(edit) for edit in self._edits[self.largest >= SAME_QUESTION]})

    def false_activation_rate(self) -> float:
        """The share of the unrelated prompts that would read an edit, without those that ask its very question."""
        scores = self.largest[self.largest < SAME_QUESTION]
        return float((scores >= self.value).mean()) if len(scores) else 0.0

    def bound(self) -> float | None:
        """The rate, 0..1, that the false activation of further prompts of the same kind stays below with 95 % confidence (see `promise.py`);
        None for a fixed threshold, which promises nothing."""
        if self.fixed is not None:
            return None
        return bound(int((self.largest < SAME_QUESTION).sum()), self.rate)

    def settle(self) -> None:
        """Compare what has changed: lost prompts with all edits, the others with the new edits that share an important word with them."""
        new, lost = list(self._new), sorted(self._lost)
        self._new, self._lost = {}, set()
        for number in lost:
            found = self.keys.ranked(self._queries[number])
            self._largest[number], self._edits[number] = (found[0].score, found[0].edit) if found else (0.0, -1)
        for edit in new:
            for number in sorted({n for word in self.keys.vocabulary(edit) for n in self._holding.get(word, ())}):
                score = self.keys.score(self._queries[number], edit)
                if score >= self._largest[number]:
                    self._largest[number], self._edits[number] = score, edit

    def _conformal(self) -> float:
        scores = np.sort(self._largest[self._largest < SAME_QUESTION])[::-1]
        most = allowed(len(scores), self.rate)
        # Just above the highest score that may not read.
        above = float(scores[most]) + 1e-6 if most < len(scores) else 0.0
        return max(LEAST, above)
