"""A growing array of rows."""

from __future__ import annotations

from typing import Any

import numpy as np


class Rows:
    """An array that grows by rows, at O(1) each on average.

    Args:
        shape: of one row.
        dtype: of the array.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any):
        self._data, self.count = np.empty((0, *shape), dtype), 0

    @property
    def view(self) -> np.ndarray:
        """The rows so far; no copy."""
        return self._data[: self.count]

    def append(self, rows: np.ndarray) -> None:
        """Append rows (n, *shape)."""
        needed = self.count + len(rows)
        if needed > len(self._data):
            # Large arrays grow by an eighth only: doubling gigabytes would break the promise of 2 KB per edit.
            room = max(64, needed, len(self._data) * 2 if len(self._data) < 1 << 14 else len(self._data) * 9 // 8)
            data = np.empty((room, *self._data.shape[1:]), self._data.dtype)
            data[: self.count] = self.view
            self._data = data
        self._data[self.count : needed] = rows
        self.count = needed

    def keep(self, kept: np.ndarray) -> None:
        """Keep the rows where `kept` (count,) bool is True, in order."""
        rows = self.view[kept]
        self._data[: len(rows)] = rows
        self.count = len(rows)
