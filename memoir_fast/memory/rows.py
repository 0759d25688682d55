"""Rows of one array that grows."""

from __future__ import annotations

from typing import Any

import numpy as np


class Rows:
    """An array to which rows are added at O(1) on average.

    Args:
        shape: of one row; dtype: of the array.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any):
        self._data, self.count = np.empty((0, *shape), dtype), 0

    @property
    def view(self) -> np.ndarray:
        """The rows so far; no copy."""
        return self._data[: self.count]

    def append(self, rows: np.ndarray) -> None:
        """Add rows behind the others."""
        needed = self.count + len(rows)
        if needed > len(self._data):
            # By an eighth once large: a doubled array of gigabytes would break the promise of 2 KB an edit.
            room = max(64, needed, len(self._data) * 2 if len(self._data) < 1 << 14 else len(self._data) * 9 // 8)
            data = np.empty((room, *self._data.shape[1:]), self._data.dtype)
            data[: self.count] = self.view
            self._data = data
        self._data[self.count : needed] = rows
        self.count = needed

    def keep(self, kept: np.ndarray) -> None:
        """Keep the rows that `kept` (count,) bool says, in their order."""
        rows = self.view[kept]
        self._data[: len(rows)] = rows
        self.count = len(rows)
