"""How far C is from the sum that it stands for.

C takes what an edit read by an addition and gives it back by a subtraction, each of them rounded to float32. So it drifts from the sum over the
edits that are there, slowly while edits come, and by more once most of them have gone. To add all of them up again takes as long as there are
edits; to see whether that is needed takes a few products with random vectors, which are followed in float64.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from .symmetric import Symmetric

VECTORS = 4


class Drift:
    """Follows `C Z` in float64 for a few vectors Z of random signs, which are the same everywhere and for ever: stores keep what was found.

    Args:
        size: D, the rows of C.
        sums: (D, VECTORS) float64, what `C Z` should be; None for a C of zeros.

    Attributes:
        sums: the same.

    Source: `|E Z|` over `sqrt(VECTORS)` estimates the Frobenius norm of the error E (Hutchinson, 1990).
    """

    def __init__(self, size: int, sums: torch.Tensor | None = None):
        self._Z = _signs(size)
        self.sums = torch.zeros(size, VECTORS, dtype=torch.float64) if sums is None else sums.clone()

    def begin(self, C: Symmetric) -> None:
        """Take this C (D, D) for the sum itself."""
        self.sums = C.product(self._Z)

    def clear(self) -> None:
        """Begin with a C of zeros."""
        self.sums.zero_()

    def add(self, rows: torch.Tensor, features: torch.Tensor, sign: int) -> None:
        """`C[rows, rows]` gets `sign * A^T A`. rows: (k,); features: A (n, k)."""
        where, A = rows.cpu().long(), features.detach().cpu().double()
        self.sums[where] += sign * (A.T @ (A @ self._Z[where]))

    def of(self, C: Symmetric) -> float:
        """|C - the sum| over the norm of the sum, in the Frobenius norm, as the vectors see it."""
        off = float((C.product(self._Z) - self.sums).norm())
        return off / max(float(self.sums.norm()), 1e-30)


def _signs(size: int) -> torch.Tensor:
    """(size, VECTORS) float64 of -1 and 1: the bits of SHAKE-256, from the lowest of each byte on."""
    stream = hashlib.shake_256(b"memoir_fast C").digest(size * VECTORS // 8 + 1)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), count=size * VECTORS, bitorder="little")
    return torch.from_numpy(bits.astype(np.float64) * 2 - 1).view(size, VECTORS)
