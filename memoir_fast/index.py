"""Exact nearest-neighbour search over the stored edits' signatures, with FAISS binary indices."""

from __future__ import annotations

import numpy as np


def _faiss():
    try:
        import faiss
    except ImportError:
        raise ImportError(
            "looking signatures up needs FAISS: pip install memoir-fast[cpu] (or memoir-fast[gpu] on a CUDA machine)"
        ) from None
    return faiss


class SignatureIndex:
    """Signatures of stored edits, by id.

    A signature is a mask of D features with exactly k ones, packed little-endian into ceil(D/8) bytes, padding bits 0.
    Two of them with Hamming distance H share the fraction `overlap = 1 - H / (2k)` of their ones, so the largest overlap
    is the smallest Hamming distance.

    Args:
        dimension: D.
        top_k: k.
    """

    def __init__(self, dimension: int, top_k: int):
        if not 1 <= top_k <= dimension:
            raise ValueError(f"top_k must be in [1, {dimension}], got {top_k}")
        self.dimension, self.top_k = dimension, top_k
        self.width = (dimension + 7) // 8
        self._index = None  # made on first use: attaching a memory must not need FAISS
        self._ids: list[int] = []  # ascending, as in the FAISS index: ties go to the earliest edit
        self._row: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, edit_id: int) -> bool:
        return edit_id in self._row

    @property
    def ids(self) -> list[int]:
        """The stored ids, ascending."""
        return list(self._ids)

    def signature(self, edit_id: int) -> np.ndarray:
        """(ceil(D/8),) uint8, a stored edit's signature. Raises ValueError for an unknown id."""
        if edit_id not in self._row:
            raise ValueError(f"id {edit_id} is not stored")
        return self._index.reconstruct(self._row[edit_id])

    def add(self, ids, signatures) -> None:
        """Store signatures under new ids.

        Args:
            ids: m ints >= 0, ascending and larger than every stored id (edits are numbered in order).
            signatures: (m, ceil(D/8)) uint8.

        Raises:
            ValueError: an id out of order, or a signature of the wrong size or without exactly k ones; nothing is stored.
        """
        ids = [int(i) for i in ids]
        signatures = self._checked(signatures)
        if len(ids) != len(signatures):
            raise ValueError(f"ids and signatures differ in number: {len(ids)} and {len(signatures)}")
        last = self._ids[-1] if self._ids else -1
        if any(b <= a for a, b in zip([last, *ids], ids, strict=False)):
            raise ValueError(f"ids must ascend and exceed the stored ones (last {last}), got {ids[:8]}")
        ones = np.unpackbits(signatures, axis=1, bitorder="little")
        if ones[:, self.dimension :].any() or (ones.sum(1, dtype=np.int64) != self.top_k).any():
            raise ValueError(f"signatures must have exactly {self.top_k} ones within {self.dimension} bits")
        if self._index is None:
            self._index = _faiss().IndexBinaryFlat(8 * self.width)
        self._index.add(signatures)
        self._row.update({edit_id: len(self._ids) + offset for offset, edit_id in enumerate(ids)})
        self._ids += ids

    def remove(self, ids) -> None:
        """Remove stored edits; the others keep their ids. Costs one pass over the index. ValueError for unknown ids."""
        unknown = [i for i in ids if i not in self._row]
        if unknown:
            raise ValueError(f"ids {unknown} are not stored")
        self._index.remove_ids(np.array([self._row[i] for i in ids], dtype=np.int64))
        gone = set(ids)
        self._ids = [i for i in self._ids if i not in gone]
        self._row = {edit_id: row for row, edit_id in enumerate(self._ids)}

    def nearest(self, signatures) -> tuple[np.ndarray, np.ndarray]:
        """The stored edit with the largest overlap, for each query; the lowest id among equals.

        Args:
            signatures: (B, ceil(D/8)) uint8.

        Returns:
            ids (B,) int64, -1 when nothing is stored; overlaps (B,) float64 in 0..1, 0 when nothing is stored.
        """
        signatures = self._checked(signatures)
        if not self._ids:
            return np.full(len(signatures), -1, np.int64), np.zeros(len(signatures))
        distances, rows = self._index.search(signatures, 1)
        ids = np.array([self._ids[row] for row in rows[:, 0]], dtype=np.int64)
        return ids, 1.0 - distances[:, 0].astype(np.float64) / (2 * self.top_k)

    def _checked(self, signatures) -> np.ndarray:
        array = np.asarray(signatures)
        if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != self.width:
            raise ValueError(
                f"signatures must be uint8 of shape (n, {self.width}) for D = {self.dimension}, "
                f"got {array.dtype} {array.shape}"
            )
        return np.ascontiguousarray(array)
