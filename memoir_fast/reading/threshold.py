"""The threshold tau for router="mask": the overlap that a query needs to read an edit, set from prompts that must read
none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..memory.index import SignatureIndex
from .promise import allowed


def overlaps(signatures: np.ndarray, signature: np.ndarray, top_k: int) -> np.ndarray:
    """(m,) float64: the overlap, 0..1, of each of `signatures` (m, bytes) with `signature` (bytes,): shared ones over
    k."""
    return np.bitwise_count(signatures & signature).sum(1, dtype=np.int64) / top_k


class Threshold:
    """tau, fixed by the user for all edits, or calibrated for each edit and kept calibrated as edits change.

    Some edits are worded like many other prompts ("The capital of Australia is"), others like none. So each edit has
    its own calibrated tau: its largest overlap with any of the m unrelated prompts, plus a margin that is the same for
    all edits. The margin is chosen by conformal prediction: each unrelated prompt is scored by how far its overlap with
    its nearest edit exceeds the other prompts' largest overlap with that edit. A further prompt of the same kind then
    reads the memory with a chance of at most `rate` (or 1 / (m + 1), if that is more). A new edit costs one comparison
    per unrelated prompt.

    The caller holds the memory's lock.

    Args:
        index: the stored edits' signatures; the threshold follows its changes.
        fixed: the user's tau, or None to calibrate.
        signatures: (m, ceil(D/8)) uint8, the unrelated prompts' signatures.
        rate: the wanted false-activation rate, 0..1.

    Source: this library's; conformal prediction (Vovk et al., 2005).
    """

    # Unrelated prompts' overlaps with a few edits say little about the next thousand, so tau is never below this.
    FLOOR = 0.4

    def __init__(self, index: SignatureIndex, fixed: float | None, signatures: np.ndarray, rate: float):
        self._index, self.fixed, self.signatures, self.top_k, self.rate = index, fixed, signatures, index.top_k, rate
        self.largest = np.zeros(len(signatures))  # each unrelated prompt's overlap with its nearest edit
        self._nearest = np.full(len(signatures), -1)
        # Edit -> its largest overlap with an unrelated prompt, that prompt's number, and its largest overlap with
        # another one.
        self._closest: dict[int, tuple[float, int, float]] = {}
        self.margin = 0.0
        self.recount()
        index.listen(self)

    def added(self, edits: Iterable[int], signatures: np.ndarray) -> None:
        """Edits were stored with these signatures (n, bytes); for `SignatureIndex.listen`."""
        for edit, signature in zip(edits, signatures, strict=True):
            self._meet(int(edit), signature)
        self.margin = self._conformal()

    def removed(self, edits: Iterable[int]) -> None:
        """Edits were removed. Only the unrelated prompts whose nearest edit is gone are compared again."""
        gone = set(edits)
        for edit in gone:
            self._closest.pop(edit, None)
        lost = np.flatnonzero(np.isin(self._nearest, list(gone)))
        if len(lost):
            nearest, largest = self._index.nearest(self.signatures[lost], exhaustive=True)
            self._nearest[lost], self.largest[lost] = np.where(largest > 0, nearest, -1), largest
        self.margin = self._conformal()

    def of_others(self, signatures: np.ndarray) -> None:
        """Use other unrelated prompts, (m, bytes) uint8, from now on."""
        self.signatures = signatures
        self.recount()

    def _meet(self, edit: int, signature: np.ndarray) -> None:
        near = overlaps(self.signatures, signature, self.top_k)
        whose = int(near.argmax())
        self._closest[edit] = (near[whose], whose, np.delete(near, whose).max(initial=0.0))
        # Among equals the lower id is the nearest, as in the index.
        closer = (near > self.largest) | ((near == self.largest) & (edit < self._nearest))
        self.largest[closer], self._nearest[closer] = near[closer], edit

    def recount(self) -> None:
        """Start again from all stored edits."""
        self.largest, self._nearest, self._closest = (
            np.zeros(len(self.signatures)),
            np.full(len(self.signatures), -1),
            {},
        )
        self.added(self._index.ids, self._index.signatures())

    def calibrate(self, rate: float) -> None:
        """Calibrate for this rate from now on; a fixed tau is dropped."""
        self.fixed, self.rate = None, rate
        self.margin = self._conformal()

    def of(self, edits: Sequence[int] | np.ndarray) -> np.ndarray:
        """(len(edits),) float64: each edit's tau, above 1 for -1 (no edit). A query whose nearest edit it is reads it
        if their overlap is >= tau."""
        if self.fixed is not None:
            return np.full(len(edits), self.fixed)
        closest = np.array([2.0 if edit < 0 else self._closest[int(edit)][0] for edit in edits])
        return np.where(closest > 1, 2.0, self._tau(closest, self.margin))

    @property
    def median(self) -> float:
        """The user's tau, or the median of the edits' own; without edits the lowest possible one."""
        if self.fixed is not None:
            return self.fixed
        return float(np.median(self.of(list(self._closest)))) if self._closest else self.FLOOR

    def _conformal(self) -> float:
        """The margin, -1..1: by how much a query must exceed its nearest edit's largest overlap with an unrelated prompt.

        Each of m + 1 exchangeable prompts is equally likely to be among the `rate * (m + 1)` highest scores. A further
        prompt is compared with one prompt more than the calibration prompts are, so its score can only be lower than
        exchangeability says.

        Source: conformal prediction (Vovk et al., 2005), each unrelated prompt being scored against the others.
        """
        excess = np.sort(self.largest - self._others())[::-1]
        most = allowed(len(excess), self.rate)
        return float(excess[most]) if most < len(excess) else -1.0

    def bound(self) -> float | None:
        """None: no confidence can be stated, because each edit's threshold depends on the prompts that set the
        margin."""
        return None

    def _others(self) -> np.ndarray:
        """(m,): for each unrelated prompt's nearest edit, its largest overlap with any *other* unrelated prompt."""
        found = np.zeros(len(self.largest))
        for prompt, edit in enumerate(self._nearest.tolist()):
            if edit >= 0:
                first, whose, second = self._closest[edit]
                found[prompt] = second if whose == prompt else first
        return found

    def _tau(self, closest: np.ndarray, margin: float) -> np.ndarray:
        return np.clip(np.round((closest + margin) * self.top_k + 1) / self.top_k, self.FLOOR, 1.0)

    def false_activation_rate(self) -> float:
        """The share of the unrelated prompts that would read the memory, each judged by a tau made without it."""
        bound = self._tau(self._others(), self.margin) if self.fixed is None else self.fixed
        return float((self.largest >= bound).mean())
