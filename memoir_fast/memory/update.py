"""What one finished edit adds to a memory: enough to write it, to take it back and to store it in a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Update:
    """The change `V[rows] += delta / scale` in one page and, if C is kept of that page, `C[rows, rows] += A^T A`.

    The delta (k, d) is held either as `block` or as `moves^T G`; `compact` chooses the form with fewer numbers.

    Attributes:
        rows: (k,) int32 ascending, the edit's mask.
        signature: (ceil(D/8),) uint8, the mask packed.
        decay: s, the factor by which this edit's weight decay shrank the memory (1 without decay).
        scale: S, the memory's scale after this edit.
        block: (k, d) float32, or None.
        moves: U (n, k) float32, or None.
        G: (n, d) float32, or None.
        features: A (n, k) float32, or None if the memory keeps no C.
        page: the page's number.
    """

    rows: torch.Tensor
    signature: np.ndarray
    decay: float
    scale: float
    block: torch.Tensor | None = None
    moves: torch.Tensor | None = None
    G: torch.Tensor | None = None
    features: torch.Tensor | None = None
    page: int = 0

    def delta(self) -> torch.Tensor:
        """(k, d) float32, before it is divided by `scale`."""
        if self.moves is not None and self.G is not None:
            return self.moves.T @ self.G
        assert self.block is not None
        return self.block

    def compact(self) -> Update:
        """The same update in the form with fewer numbers."""
        if (
            self.moves is None
            or self.G is None
            or self.moves.numel() + self.G.numel() <= len(self.rows) * self.G.shape[1]
        ):
            return self
        return replace(self, block=self.delta(), moves=None, G=None)

    def rounded(self, dtype: torch.dtype) -> Update:
        """The same update with its values rounded to a dtype and held in float32, as a file of that dtype gives them
        back."""
        values: dict[str, Any] = {name: tensor.to(dtype).float() for name, tensor in self.values().items()}
        return replace(self, **values)

    def to(self, device: torch.device) -> Update:
        """The same update with its tensors on a device."""
        values: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.values().items()}
        return replace(self, rows=self.rows.to(device), **values)

    def values(self) -> dict[str, torch.Tensor]:
        """The floating-point tensors that are present, by name."""
        found = {name: getattr(self, name) for name in ("block", "moves", "G", "features")}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def is_finite(self) -> bool:
        """Whether the update and its delta hold no NaN and no infinity."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in (self.delta(), *self.values().values()))
