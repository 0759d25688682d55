"""The threshold tau: how much overlap a query needs to read an edit, set from prompts that must not read any."""

from __future__ import annotations

import numpy as np


def overlaps(signatures: np.ndarray, signature: np.ndarray, top_k: int) -> np.ndarray:
    """(m,) float64: shared active features of each of `signatures` (m, bytes) with `signature` (bytes,), over k."""
    return np.bitwise_count(signatures & signature).sum(1, dtype=np.int64) / top_k


class Threshold:
    """tau, fixed by the user or calibrated and kept so while edits come and go.

    A calibrated tau lies just above one of the m unrelated prompts' largest overlaps with any stored edit, chosen as split
    conformal prediction does: a further prompt of the same kind reads the memory with a chance of at most `rate`. With
    too few prompts for the rate (m + 1 < 1 / rate) it lies above all of them. Each new edit can only raise an unrelated
    prompt's largest overlap, so following it costs one comparison per calibration prompt.

    Args:
        fixed: the user's tau, or None to calibrate.
        signatures: (m, ceil(D/8)) uint8, the unrelated prompts' signatures.
        top_k: k.
        rate: wanted false-activation rate, 0..1.
    """

    # Overlaps of unrelated prompts with a handful of edits say little about the next thousand: never below this.
    FLOOR = 0.4

    def __init__(self, fixed: float | None, signatures: np.ndarray, top_k: int, rate: float):
        self.fixed, self.signatures, self.top_k, self.rate = fixed, signatures, top_k, rate
        self.largest = np.zeros(len(signatures))

    def follow(self, signature: np.ndarray) -> None:
        """An edit with this signature (bytes,) was stored."""
        np.maximum(self.largest, overlaps(self.signatures, signature, self.top_k), out=self.largest)

    def recount(self, stored: np.ndarray) -> None:
        """Start again from the stored edits' signatures (n, bytes): after removals or loading."""
        self.largest[:] = 0
        for signature in stored:
            self.follow(signature)

    @property
    def value(self) -> float:
        """tau, 0..1; a query matches when its overlap is >= tau."""
        return self.fixed if self.fixed is not None else self.calibrated(self.rate)

    def calibrated(self, rate: float) -> float:
        """The smallest tau (a multiple of 1/k) at which a further unrelated prompt reads with a chance of at most `rate`.

        Source: split conformal prediction (Vovk et al., 2005): of m + 1 exchangeable prompts each is as likely to be
        among the `rate * (m + 1)` highest.
        """
        allowed = max(0, int(rate * (len(self.largest) + 1)) - 1)
        highest = np.sort(self.largest)[::-1]
        bound = highest[allowed] if allowed < len(highest) else 0.0
        return float(min(1.0, max(self.FLOOR, round(bound * self.top_k + 1) / self.top_k)))

    def false_activation_rate(self, threshold: float | None = None) -> float:
        """The fraction of the unrelated prompts that read the memory at this threshold (default: tau)."""
        return float((self.largest >= (self.value if threshold is None else threshold)).mean())
