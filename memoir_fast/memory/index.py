"""Nearest-neighbour search over the stored edits' signatures by Hamming distance.

The signatures (codes) lie in one growing array. The C++ extension scans it with torch's number of threads; without the
extension, FAISS does. Beyond `SignatureIndex.exhaustive` edits, the extension scans a slice of each code and compares
only the nearest candidates in full. (benchmarks/speed/lookup_masks.py compares this with FAISS's binary index, which
reads every byte of a million masks where the slices are a ninth.)
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

_AT_ONCE = 4096  # signatures unpacked in one piece: each bit takes a byte then


class Listener(Protocol):
    """Gets the changes of a `SignatureIndex` (see `listen`), which is in its new state by then."""

    def added(self, edits: list[int], signatures: np.ndarray) -> None:
        """These n edits were stored, with these signatures (n, ceil(D/8)) uint8."""

    def removed(self, edits: list[int]) -> None:
        """These edits were removed."""


class SignatureIndex:
    """Signatures of stored edits, by id.

    A signature is a mask of D features with exactly k ones, packed little-endian into ceil(D/8) bytes, padding bits 0.
    Two of them with Hamming distance H share the fraction `overlap = 1 - H / (2k)` of their ones, so the nearest code
    has the largest overlap.

    Args:
        dimension: D.
        top_k: k.

    Raises:
        ValueError: top_k is not in 1..D.

    Attributes:
        exhaustive: up to this many edits, every code is compared in full and the result is exact. Beyond, only
            candidates are: the 0.5 % of codes that are nearest by a slice of the bits, which are permuted and so random
                (at LLaMA-3's size the
            slice is a ninth of them). On masks as skewed as SmolLM2's, this found the nearest of a million for all 600
            queries (benchmarks/results/lookup.jsonl).
    """

    exhaustive = search.EXHAUSTIVE

    def __init__(self, dimension: int, top_k: int):
        if not 1 <= top_k <= dimension:
            raise ValueError(f"top_k must be in [1, {dimension}], got {top_k}")
        self.dimension, self.top_k = dimension, top_k
        self.width = (dimension + 7) // 8
        self.version = 0  # counts changes
        self.slice_width = max(64, self.width // 9 // 32 * 32)  # bytes, read for every stored edit
        self._codes = Rows((self.width,), np.uint8)
        self._slices: Rows | None = None  # made by the first search that needs it
        self._uses: np.ndarray | None = None  # made by the first writer that needs it
        self._lock = threading.RLock()  # a search sees an edit whole or not at all
        self._listeners: list[Listener] = []
        self._ids = array("q")  # ascending, like the codes' rows, so that ties go to the earliest edit

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
        """(n, ceil(D/8)) uint8: all signatures, in the ids' order."""
        with self._lock:
            return self._codes.view.copy()

    def uses(self, ids: range | None = None) -> np.ndarray:
        """(D,) int64, of the caller's own: how many stored edits, of all or of those with these consecutive ids, have each feature in
        their mask. O(n) at the first call, O(1) later; with ids O(their number)."""
        with self._lock:
            if ids is not None:
                return self._counted(self._codes.view[self._row_of(ids.start) : self._row_of(ids.stop)])
            if self._uses is None:
                self._uses = self._counted(self._codes.view)
            return self._uses.copy()

    def _counted(self, signatures: np.ndarray) -> np.ndarray:
        """(D,) int64: in how many signatures (n, ceil(D/8)) each bit is set."""
        found = np.zeros(self.dimension, np.int64)
        for start in range(0, len(signatures), _AT_ONCE):
            bits = np.unpackbits(signatures[start : start + _AT_ONCE], axis=1, bitorder="little", count=self.dimension)
            found += bits.sum(0, dtype=np.int64)
        return found

    def listen(self, listener: Listener) -> None:
        """Call the listener's `added` or `removed` at every change, before any search sees the change. The index is in
        its new state by then."""
        with self._lock:
            self._listeners.append(listener)

    def add(self, ids: Iterable[int], signatures: np.ndarray) -> None:
        """Store signatures under new ids.

        Args:
            ids: m ints >= 0, ascending, none of them stored. Ids above all stored ones are appended at O(1); others (a
                restored edit) are put in their place, which costs one pass over the index.
            signatures: (m, ceil(D/8)) uint8.

        Raises:
            ValueError: an id is out of order or stored already, or a signature has the wrong size or not exactly k
                ones; nothing is stored.
        """
        ids = [int(i) for i in ids]
        signatures = self._checked(signatures)
        if len(ids) != len(signatures):
            raise ValueError(f"ids and signatures differ in number: {len(ids)} and {len(signatures)}")
        ones = np.bitwise_count(signatures).sum(1, dtype=np.int64)
        padding = 8 * self.width - self.dimension
        if (ones != self.top_k).any() or (signatures[:, -1] >> 8 - padding).any():
            raise ValueError(f"signatures must have exactly {self.top_k} ones within {self.dimension} bits")
        with self._lock:
            if any(b <= a for a, b in zip([-1, *ids], ids, strict=False)) or any(i in self for i in ids):
                raise ValueError(f"ids must ascend from 0 and not be stored already, got {ids[:8]}")
            self.version += 1
            between = bool(ids) and bool(self._ids) and ids[0] < self._ids[-1]
            at = [bisect_left(self._ids, i) for i in ids] if between else None
            self._codes.insert(signatures, at)
            if self._uses is not None:
                self._uses += self._counted(signatures)
            if self._slices is not None:
                self._slices.insert(signatures[:, : self.slice_width], at)
            if at is None:
                self._ids.extend(ids)
            else:
                self._ids = array("q", np.insert(np.array(self._ids), at, ids).tobytes())
            for listener in self._listeners:
                listener.added(ids, signatures)

    def subset(self, ids: Iterable[int]) -> SignatureIndex:
        """A separate index of some of the stored edits; ids that are not stored are skipped."""
        index = SignatureIndex(self.dimension, self.top_k)
        with self._lock:
            ids = sorted(i for i in ids if i in self)
            codes = self._codes.view[[self._row_of(i) for i in ids]]
        if ids:
            index.add(ids, codes)
        return index

    def within(self, signature: np.ndarray, least: float) -> list[int]:
        """The ids of stored edits whose overlap with a signature (ceil(D/8),) uint8 is at least `least`, ascending."""
        query = self._checked(np.asarray(signature)[None])[0]
        with self._lock:
            shared = np.bitwise_count(self._codes.view & query).sum(1, dtype=np.int64)
            return [self._ids[row] for row in np.flatnonzero(shared / self.top_k >= least)]

    def remove(self, ids: Iterable[int]) -> None:
        """Remove stored edits; the others keep their ids. Costs one pass over the index. Raises ValueError for unknown
        ids."""
        ids = list(ids)
        gone = set(ids)
        with self._lock:
            unknown = [i for i in ids if i not in self]
            if unknown:
                raise ValueError(f"ids {unknown} are not stored")
            places = sorted(self._row_of(i) for i in gone)
            self.version += 1
            if self._uses is not None:
                self._uses -= self._counted(self._codes.view[places])
            for rows in (self._codes, self._slices):
                if rows is not None:
                    rows.remove(places)
            self._ids = array("q", np.delete(np.array(self._ids), places).tobytes())
            for listener in self._listeners:
                listener.removed(ids)

    def touch(self) -> None:
        """Raise the version because something outside the index changed (tags), so that selections of edits are made
        again."""
        with self._lock:
            self.version += 1

    def nearest(self, signatures: np.ndarray, exhaustive: bool | None = None) -> tuple[np.ndarray, np.ndarray]:
        """For each query, the stored edit with the largest overlap; among equals, the lowest id.

        Args:
            signatures: (B, ceil(D/8)) uint8.
            exhaustive: compare every stored code in full; None decides by their number (see the class's attribute).

        Returns:
            ids (B,) int64, -1 when nothing is stored; overlaps (B,) float64 in 0..1, 0 when nothing is stored.

        Raises:
            ValueError: the signatures have the wrong dtype or shape.
            ImportError: neither the C++ extension nor FAISS is installed.
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
