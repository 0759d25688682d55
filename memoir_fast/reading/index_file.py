"""Writes and reads the index that a router finds candidates in, as a FAISS file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..ops import search
from .router import Router


def write_index(router: Router, path: str | Path) -> list[tuple[int, int] | None]:
    """Write the codes by which candidates are looked up; see `Answering.write_index`."""
    with router.memory.lock:
        if router.words is not None:
            keys = router.words.keys
            keys.settle()
            keys.candidates.write_index(path)
            return keys.owners
        index = router.memory.index
        search.write_flat(path, search.flat_index(index.signatures()))
        return [(edit, 0) for edit in index.ids]


def read_index(router: Router, path: str | Path) -> None:
    """Look up candidates in a stored index; see `Answering.read_index`."""
    with router.memory.lock:
        if router.words is not None:
            router.words.keys.settle()
            return router.words.keys.candidates.read_index(path)
        index = router.memory.index
        codes = search.codes_of(search.read_flat(path, index.width))
        if not np.array_equal(codes, index.signatures()):
            raise ValueError(f"{path}: its {len(codes)} codes are not those of the {len(index)} stored edits")
