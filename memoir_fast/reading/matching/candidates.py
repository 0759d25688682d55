"""First stage of a look-up: finds the few dozen stored wordings that a query may ask for, among up to millions.

It takes the union of two sources: wordings that share the query's rarest words (posting lists, read as far as a budget
allows), and wordings whose summed code is near the query's (a Hamming search, in FAISS's binary index if there are
many).
"""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ... import ops
from ...memory.rows import Rows
from ...ops import cpu, search
from .prompt_codes import PromptCode

# Up to this many rows, a direct comparison is as fast as an index.
DIRECT = search.DIRECT
# Among a million generated wordings, this many postings found the most rewordings. The rarest words say which subject
# is meant; more frequent ones only bring in other subjects (`python -m benchmarks.speed.lookup`).
BUDGET = 20_000


class Candidates:
    """Stored wordings by row number, in the order in which they were added.

    Args:
        bits: the number of bits of a word's activation code.
        budget: the most postings that are read for one query; the rarest words come first.
    """

    def __init__(self, bits: int, budget: int = BUDGET):
        self.bits, self.budget = bits, budget
        self._postings: dict[int, array[int]] = {}  # four bytes per posting; lists would take eight times as much
        self._size = Rows((), np.float32)
        self._sums = Rows(((bits + 63) // 64,), np.uint64)
        self._scores = np.zeros(0)  # one per row; all zero except while `lexical` runs
        self._index: Any = None
        self.removed = 0

    def __len__(self) -> int:
        return self._size.count

    def add(self, code: PromptCode) -> None:
        """Store one wording; its row is the number of those before it."""
        row = len(self)
        for word in set(code.word.tolist()):
            if word not in self._postings:
                self._postings[word] = array("I")
            self._postings[word].append(row)
        self._size.append(np.array([np.sqrt(max(float(code.weight.sum()), 0.05))], np.float32))
        self._sums.append(summed(code, self.bits)[None])

    def remove(self, row: int, words: Iterable[int]) -> None:
        """Stop finding a row by its words. `near` still finds it, so callers exclude it with `open_rows`."""
        for word in set(words):
            rows = self._postings[word]
            del rows[bisect.bisect_left(rows, row)]
            if not rows:
                del self._postings[word]
        self.removed += 1

    def lexical(self, query: PromptCode, number: int, open_rows: np.ndarray | None = None) -> np.ndarray:
        """At most `number` rows that share words with the query, best first, the newest among equals.

        Args:
            open_rows: (n,) bool, the rows that count; None for all.
        """
        postings = self._read(query)
        if len(self._scores) < len(self):
            self._scores = np.zeros(len(self) * 9 // 8)
        if ops.extension_compares():
            worth = np.array([each for _, each in postings])
            lists = [rows for rows, _ in postings]
            return cpu.rows_by_words(lists, worth, self._size.view, self._scores, number, open_rows)
        parts = []
        for rows, each in postings:
            parts.append(np.array(rows).astype(np.int64))
            self._scores[parts[-1]] += each  # a row is in a word's list only once
        if not parts:
            return np.zeros(0, np.int64)
        where = np.concatenate(parts)
        total = self._scores[where] / self._size.view[where]
        self._scores[where] = 0
        if open_rows is not None:
            kept = open_rows[where]
            where, total = where[kept], total[kept]
        if len(where) > number * len(
            parts
        ):  # a row occurs once per shared word, so this many entries must contain the best rows
            edge = np.partition(total, -number * len(parts))[-number * len(parts)]
            where, total = where[total >= edge], total[total >= edge]
        found, first = np.unique(where, return_index=True)
        return found[np.lexsort((-found, -total[first]))[:number]]

    def _read(self, query: PromptCode) -> list[tuple[array[int], float]]:
        """The posting lists that are read for a query, rarest words first, and what each adds to its rows."""
        weights: dict[int, float] = {}
        for word, weight in zip(query.word.tolist(), query.weight.tolist(), strict=True):
            weights[word] = max(weight, weights.get(word, 0.0))
        known = sorted((len(self._postings[w]), w) for w in weights if w in self._postings)
        found, read = [], 0
        for length, word in known:
            if read and read + length > self.budget:
                break
            read += length
            rarity = min(1.0, math.log(1 + (len(self) - self.removed) / length) / 5)
            found.append((self._postings[word], weights[word] * rarity))
        return found

    def near(self, query: PromptCode, number: int, open_rows: np.ndarray | None = None) -> np.ndarray:
        """At most `number` rows whose summed codes are nearest to the query's, best first. open_rows: as for
        `lexical`."""
        code = summed(query, self.bits)
        if len(self) <= DIRECT and ops.extension_compares():
            return cpu.nearest_sums(self._sums.view, code, number, open_rows)
        rows = np.arange(len(self)) if open_rows is None else np.flatnonzero(open_rows)
        if len(rows) <= DIRECT:
            sums = self._sums.view if len(rows) == len(self) else self._sums.view[rows]
            distance = np.bitwise_count(sums ^ code).sum(1, dtype=np.int64)
            # One number encodes the distance and, among equals, the age.
            order = distance * len(self) - rows
            if number < len(rows):
                order = np.partition(order, number - 1)[:number]
            return -np.sort(order) % len(self)
        found = self._searched(code.view(np.uint8), number if len(rows) == len(self) else 8 * number)
        return (found if open_rows is None else found[open_rows[found]])[:number]

    def _searched(self, code: np.ndarray, number: int) -> np.ndarray:
        index = self._followed()
        with search.one_thread(search.faiss("the look-up")):
            rows = index.search(code[None], min(number, len(self)))[1][0]
        return rows[rows >= 0]

    def _followed(self) -> Any:
        """The FAISS index, brought up to date with all rows."""
        if self._index is None:
            self._index = search.placed(self._flat())
        elif self._index.ntotal < len(self):
            self._index.add(self._sums.view[self._index.ntotal :].view(np.uint8))
        return self._index

    def _flat(self) -> Any:
        return search.flat_index(self._sums.view.view(np.uint8))

    def write_index(self, path: str | Path) -> None:
        """Write the summed codes as a FAISS file, an `IndexBinaryFlat` whose ids are row numbers. Raises OSError,
        ImportError."""
        search.write_flat(path, self._flat())

    def read_index(self, path: str | Path) -> None:
        """Search in an index that `write_index` wrote; later rows are added to it.

        Raises:
            ValueError: the file is not such an index, or its codes are not those of the first rows.
            ImportError: FAISS is missing.
        """
        codes = self._sums.view.view(np.uint8)
        index = search.read_flat(path, codes.shape[1])
        if index.ntotal > len(self) or not np.array_equal(search.codes_of(index), codes[: index.ntotal]):
            raise ValueError(
                f"{path}: its {index.ntotal} codes are not those of the {len(self)} stored wordings; write it anew"
            )
        self._index = search.placed(index)

    def __call__(self, query: PromptCode, number: int = 64, open_rows: np.ndarray | None = None) -> np.ndarray:
        """At most `number` rows, ascending: two thirds by words, the rest by code; if the two overlap, more by
        words."""
        by_words = self.lexical(query, number, open_rows)
        by_code = self.near(query, number, open_rows)
        chosen = dict.fromkeys(by_words[: number * 2 // 3].tolist())
        for row in by_code.tolist() + by_words.tolist():
            if len(chosen) >= number:
                break
            chosen.setdefault(row)
        return np.array(sorted(chosen), np.int64)


def summed(code: PromptCode, bits: int) -> np.ndarray:
    """(ceil(bits/64),) uint64: the signs of the weighted sum of the words' codes, as bits."""
    if ops.extension_compares():
        return cpu.summed_codes(code.code, code.weight, code.coded, bits)
    packed = np.zeros((bits + 63) // 64, np.uint64)
    if not len(code):
        return packed
    signs = np.unpackbits(code.code.view(np.uint8), axis=1, bitorder="little")[:, :bits].astype(np.float32) * 2 - 1
    total = (signs * (code.weight * code.coded)[:, None]).sum(0)
    packed.view(np.uint8)[: (bits + 7) // 8] = np.packbits(total > 0, bitorder="little")
    return packed
