"""First stage: the few dozen stored prompts that a query may ask for, among up to millions.

Two sources, united: prompts that share the query's rarest words (posting lists, touched only as far as a budget allows), and
prompts whose summed code is near the query's (one Hamming search; FAISS's binary index or the library's own scan).
"""

from __future__ import annotations

import numpy as np

from .prompt_codes import PromptCode


class Candidates:
    """Stored prompts by row number, in the order in which they were added.

    Args:
        bits: of a word's activation code.
        budget: at most so many postings are read for one query; the rarest words come first.
    """

    def __init__(self, bits: int, budget: int = 40_000):
        self.bits, self.budget = bits, budget
        self.count = 0
        self._postings: dict[int, list[int]] = {}
        self._frozen: dict[int, np.ndarray] = {}
        self._size = np.zeros(0, np.float32)
        self._sums = np.zeros((0, (bits + 7) // 8), np.uint8)
        self._index = None

    def add(self, codes: list[PromptCode]) -> None:
        for row, code in enumerate(codes, self.count):
            for word in set(code.word.tolist()):
                self._postings.setdefault(word, []).append(row)
                self._frozen.pop(word, None)
        self._size = np.append(self._size, [np.sqrt(max(float(c.weight.sum()), 0.05)) for c in codes]).astype(
            np.float32
        )
        self._sums = np.concatenate([self._sums, np.stack([summed(c, self.bits) for c in codes])])
        self.count += len(codes)
        self._index = None

    def lexical(self, query: PromptCode, number: int) -> np.ndarray:
        """Rows that share words with the query, best first (ties: the newest)."""
        weights: dict[int, float] = {}
        for word, weight in zip(query.word.tolist(), query.weight.tolist(), strict=True):
            weights[word] = max(weight, weights.get(word, 0.0))
        known = sorted((len(self._postings[w]), w) for w in weights if w in self._postings)
        rows, scores, read = [], [], 0
        for length, word in known:
            if read and read + length > self.budget:
                break
            read += length
            if word not in self._frozen:
                self._frozen[word] = np.array(self._postings[word], np.int64)
            rows.append(self._frozen[word])
            rarity = min(1.0, np.log(1 + self.count / length) / 5)
            scores.append(np.full(length, weights[word] * rarity))
        if not rows:
            return np.zeros(0, np.int64)
        where = np.concatenate(rows)
        found, inverse = np.unique(where, return_inverse=True)
        score = np.bincount(inverse, np.concatenate(scores)) / self._size[found]
        return _best(found, score, number)

    def near(self, query: PromptCode, number: int) -> np.ndarray:
        """Rows whose summed code is nearest to the query's, best first."""
        if not self.count:
            return np.zeros(0, np.int64)
        if self._index is None:
            import faiss

            self._index = faiss.IndexBinaryFlat(self._sums.shape[1] * 8)
            self._index.add(self._sums)
        _, rows = self._index.search(summed(query, self.bits)[None], min(number, self.count))
        return rows[0][rows[0] >= 0]

    def __call__(self, query: PromptCode, number: int = 64) -> np.ndarray:
        """At most `number` rows, ascending: two thirds by words, the rest by code, and more by words where these agree."""
        by_words = self.lexical(query, number)
        by_code = self.near(query, number)
        chosen = dict.fromkeys(by_words[: number * 2 // 3].tolist())
        for row in by_code.tolist() + by_words.tolist():
            if len(chosen) >= number:
                break
            chosen.setdefault(row)
        return np.array(sorted(chosen), np.int64)


def _best(rows: np.ndarray, score: np.ndarray, number: int) -> np.ndarray:
    order = np.lexsort((-rows, -score))[:number]
    return rows[order]


def summed(code: PromptCode, bits: int) -> np.ndarray:
    """(ceil(bits/8),) uint8: signs of the weighted sum of the words' codes."""
    if not len(code):
        return np.zeros((bits + 7) // 8, np.uint8)
    signs = np.unpackbits(code.code.view(np.uint8), axis=1, bitorder="little")[:, :bits].astype(np.float32) * 2 - 1
    total = (signs * (code.weight * code.coded)[:, None]).sum(0)
    return np.packbits(total > 0, bitorder="little")
