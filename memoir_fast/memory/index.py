"""Nearest-neighbour search over the stored edits' signatures by Hamming distance.

The codes lie in one growing array. The C++ extension scans it on torch's threads; without the extension FAISS does.
(FAISS's own binary index was measured beside it, see benchmarks/speed/lookup_masks.py: it reads all bytes of a million masks,
the scan a ninth.) Beyond `SignatureIndex.exhaustive` edits, a slice of each code is scanned and only the
nearest candidates are compared in full.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from ..ops import cpu as _cpu
from ..ops import search
from .rows import Rows


class Listener(Protocol):
    """What `SignatureIndex.listen` tells of changes; the index is in its new state when it is called."""

    def added(self, edits: list[int], signatures: np.ndarray) -> None:
        """These edits were stored, with these signatures (n, ceil(D/8)) uint8."""

    def removed(self, edits: list[int]) -> None:
        """These edits are stored no longer."""


class SignatureIndex:
    """Signatures of stored edits, by id.

    A signature is a mask of D features with exactly k ones, packed little-endian into ceil(D/8) bytes, padding bits 0.
    Two of them with Hamming distance H share the fraction `overlap = 1 - H / (2k)` of their ones, so the largest overlap
    is the smallest Hamming distance.

    Args:
        dimension: D.
        top_k: k.

    Attributes:
        exhaustive: up to so many edits every code is compared in full, and the result is exact. Beyond, the candidates are
            the 0.5 % of codes nearest by a slice of the (permuted, so random) bits, a ninth of them at LLaMA-3's size: on masks with the measured skew of SmolLM2
            this found the nearest of a million for all 600 queries (benchmarks/results/lookup.jsonl).
    """

    exhaustive = search.EXHAUSTIVE

    def __init__(self, dimension: int, top_k: int):
        if not 1 <= top_k <= dimension:
            raise ValueError(f"top_k must be in [1, {dimension}], got {top_k}")
        self.dimension, self.top_k = dimension, top_k
        self.width = (dimension + 7) // 8
        self.version = 0  # counts changes
        self.slice_width = max(64, self.width // 9 // 32 * 32)  # bytes; a slice is read for every stored edit
        self._codes = Rows((self.width,), np.uint8)
        self._slices: Rows | None = None  # made by the first search that needs it
        self._lock = threading.RLock()  # a search sees an edit whole or not at all
        self._listeners: list[Listener] = []
        self._ids = array("q")  # ascending, as the codes: ties go to the earliest edit

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, edit_id: int) -> bool:
        with self._lock:
            row = bisect_left(self._ids, edit_id)
            return row < len(self._ids) and self._ids[row] == edit_id

    def _row_of(self, edit_id: int) -> int:
        """The row of a stored edit."""
        return bisect_left(self._ids, edit_id)

    @property
    def ids(self) -> list[int]:
        """The stored ids, ascending."""
        with self._lock:
            return list(self._ids)

    def signature(self, edit_id: int) -> np.ndarray:
        """(ceil(D/8),) uint8, a stored edit's signature. Raises ValueError for an unknown id."""
        with self._lock:
            if edit_id not in self:
                raise ValueError(f"id {edit_id} is not stored")
            return self._codes.view[self._row_of(edit_id)].copy()

    def signatures(self) -> np.ndarray:
        """(n, ceil(D/8)) uint8: all of them, in the ids' order."""
        with self._lock:
            return self._codes.view.copy()

    def listen(self, listener: Listener) -> None:
        """Tell `listener` of every change, before any search sees it: `added(ids, signatures)` and `removed(ids)` are called, with the
        index in its new state."""
        with self._lock:
            self._listeners.append(listener)

    def add(self, ids: Iterable[int], signatures: np.ndarray) -> None:
        """Store signatures under new ids.

        Args:
            ids: m ints >= 0, ascending, none of them stored. Larger ones than the stored are appended at O(1); others (an edit
                that comes back) are put in their place, at one pass over the index.
            signatures: (m, ceil(D/8)) uint8.

        Raises:
            ValueError: an id out of order or stored already, or a signature of the wrong size or without exactly k ones;
                nothing is stored.
        """
        ids = [int(i) for i in ids]
        signatures = self._checked(signatures)
        if len(ids) != len(signatures):
            raise ValueError(f"ids and signatures differ in number: {len(ids)} and {len(signatures)}")
        ones = np.unpackbits(signatures, axis=1, bitorder="little")
        if ones[:, self.dimension :].any() or (ones.sum(1, dtype=np.int64) != self.top_k).any():
            raise ValueError(f"signatures must have exactly {self.top_k} ones within {self.dimension} bits")
        with self._lock:
            if any(b <= a for a, b in zip([-1, *ids], ids, strict=False)) or any(i in self for i in ids):
                raise ValueError(f"ids must ascend from 0 and not be stored already, got {ids[:8]}")
            self.version += 1
            self._codes.append(signatures)
            if self._slices is not None:
                self._slices.append(signatures[:, : self.slice_width])
            last = self._ids[-1] if self._ids else -1
            self._ids.extend(ids)
            if ids and ids[0] < last:
                self._sort()
            for listener in self._listeners:
                listener.added(ids, signatures)

    def _sort(self) -> None:
        order = np.argsort(np.array(self._ids))
        for rows in (self._codes, self._slices):
            if rows is not None:
                rows.view[:] = rows.view[order]
        self._ids = array("q", [self._ids[row] for row in order])

    def subset(self, ids: Iterable[int]) -> SignatureIndex:
        """An index of some of the stored edits, by itself; ids that are not stored are passed over."""
        index = SignatureIndex(self.dimension, self.top_k)
        with self._lock:
            ids = sorted(i for i in ids if i in self)
            codes = self._codes.view[[self._row_of(i) for i in ids]]
        if ids:
            index.add(ids, codes)
        return index

    def within(self, signature: np.ndarray, least: float) -> list[int]:
        """The stored edits whose overlap with a signature (ceil(D/8),) is at least `least`, ascending."""
        query = self._checked(np.asarray(signature)[None])[0]
        with self._lock:
            shared = np.bitwise_count(self._codes.view & query).sum(1, dtype=np.int64)
            return [self._ids[row] for row in np.flatnonzero(shared / self.top_k >= least)]

    def remove(self, ids: Iterable[int]) -> None:
        """Remove stored edits; the others keep their ids. Costs one pass over the index. ValueError for unknown ids."""
        ids = list(ids)
        gone = set(ids)
        with self._lock:
            unknown = [i for i in ids if i not in self]
            if unknown:
                raise ValueError(f"ids {unknown} are not stored")
            kept = np.ones(len(self._ids), dtype=bool)
            kept[[self._row_of(i) for i in ids]] = False
            self.version += 1
            for rows in (self._codes, self._slices):
                if rows is not None:
                    rows.keep(kept)
            self._ids = array("q", [i for i in self._ids if i not in gone])
            for listener in self._listeners:
                listener.removed(ids)

    def touch(self) -> None:
        """Count a change of something beside the index that selections of edits were made by (tags)."""
        with self._lock:
            self.version += 1

    def nearest(self, signatures: np.ndarray, exhaustive: bool | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The stored edit with the largest overlap, for each query; the lowest id among equals.

        Args:
            signatures: (B, ceil(D/8)) uint8.
            exhaustive: compare every stored code in full; None decides by their number (see the attribute).

        Returns:
            ids (B,) int64, -1 when nothing is stored; overlaps (B,) float64 in 0..1, 0 when nothing is stored.
        """
        signatures = self._checked(signatures)
        with self._lock:
            if not self._ids:
                return np.full(len(signatures), -1, np.int64), np.zeros(len(signatures))
            if exhaustive is None:
                exhaustive = len(self._ids) <= self.exhaustive
            rows, distances = self._search(signatures, exhaustive or self.slice_width >= self.width)
            ids = np.array([self._ids[row] for row in rows], dtype=np.int64)
        return ids, (self.top_k - distances // 2) / self.top_k  # of two masks with k ones, k - H/2 are shared

    def _search(self, signatures: np.ndarray, exhaustive: bool) -> tuple[np.ndarray, np.ndarray]:
        codes = self._codes.view
        if not _cpu.available():
            library = search.faiss("looking signatures up without the C++ extension")
            with search.one_thread(library):
                distances, rows = library.knn_hamming(signatures, codes, 1)
            return rows[:, 0], distances[:, 0].astype(np.int64)
        if exhaustive:
            return _cpu.hamming_nearest(signatures, codes)
        if self._slices is None:
            self._slices = Rows((self.slice_width,), np.uint8)
            self._slices.append(codes[:, : self.slice_width])
        return _cpu.hamming_nearest(signatures, codes, self._slices.view, max(1024, len(codes) // 200))

    def _checked(self, signatures: np.ndarray) -> np.ndarray:
        array = np.asarray(signatures)
        if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != self.width:
            raise ValueError(
                f"signatures must be uint8 of shape (n, {self.width}) for D = {self.dimension}, "
                f"got {array.dtype} {array.shape}"
            )
        return np.ascontiguousarray(array)
