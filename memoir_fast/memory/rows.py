"""A growing array of rows."""

from __future__ import annotations

from collections.abc import Sequence
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

    def insert(self, rows: np.ndarray, at: Sequence[int] | None = None) -> None:
        """Put rows (n, *shape) in front of the rows with the numbers `at`, which ascend; None appends them. What is in
        front of the first stays where it is."""
        before = self.count
        self.append(rows)
        if at is None or not len(rows):
            return
        data, end = self._data, before
        for number in range(len(rows) - 1, -1, -1):  # from the back, so that each row moves once
            data[at[number] + number + 1 : end + number + 1] = data[at[number] : end]
            data[at[number] + number], end = rows[number], at[number]

    def remove(self, places: Sequence[int]) -> None:
        """Remove the rows with these numbers, which ascend. What is in front of the first stays where it is."""
        if not len(places):
            return
        data, ends = self._data, [*places[1:], self.count]
        for number, (place, end) in enumerate(zip(places, ends, strict=True)):
            data[place - number : end - number - 1] = data[place + 1 : end]
        self.count -= len(places)
