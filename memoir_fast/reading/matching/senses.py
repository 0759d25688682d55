"""Vectors of common English words; words of similar meaning have a high cosine ("price" and "cost", "chef" and "cook").

They come from SmolLM2's input embeddings (Apache 2.0) and WordNet's links between words, see
`benchmarks/quality/word_senses.py`. They are shipped, so that words compare the same way with every base model. A word
that is not in the table has the zero vector and so is similar to no other.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import numpy as np
import torch
from safetensors.numpy import load

TABLE = "words.safetensors"
LENGTH = 127  # the Euclidean length of a word's vector
_LEVELS = 7
_ENDINGS = ("s", "es", "ed", "ing", "d", "er")


@lru_cache(1)
def _table() -> tuple[dict[str, int], np.ndarray]:
    """Each word's row, and the vectors (V, D) int8 of length 127."""
    data = load((resources.files("memoir_fast") / "data" / TABLE).read_bytes())
    halves = data["vectors"]
    whole = np.stack([halves & 15, halves >> 4], 2).reshape(len(halves), -1).astype(np.float32) - _LEVELS
    lines = {word: line for line, word in enumerate(data["words"].tobytes().decode().split(" "))}
    return lines, _scaled(whole)


def _scaled(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return (rows * (LENGTH / np.maximum(length, 1e-6))).round().astype(np.int8)


def width() -> int:
    """D, the dimension of a word's vector."""
    return _table()[1].shape[1]


@lru_cache(1 << 16)
def sense(word: str) -> np.ndarray:
    """(D,) int8, of length 127 or 0: a lower-case word's vector, that of its stem, or the sum of its two parts' scaled
    to 127."""
    lines, vectors = _table()
    for form in (word, *(word.removesuffix(ending) for ending in _ENDINGS)):
        if form in lines:
            return vectors[lines[form]]
    for at in range(4, len(word) - 3):
        if word[:at] in lines and word[at:] in lines:
            return _scaled(vectors[lines[word[:at]]].astype(np.float32) + vectors[lines[word[at:]]])
    return np.zeros(vectors.shape[1], np.int8)


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(n, m) float32: the matrix product of (n, k) and (k, m) whole numbers, exact while sums stay below 2^24.

    Torch computes it: the threads of numpy's own library go on spinning after a product, on the cores that the model
    needs (24 % of the time to the first token of 200 tokens on two cores).
    """
    return (torch.from_numpy(left.astype(np.float32)) @ torch.from_numpy(right.astype(np.float32))).numpy()
