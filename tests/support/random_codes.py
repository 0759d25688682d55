"""Prompts' codes drawn at random from a few words, so that equal, similar, excluding and numeric words meet often and values lie on the rules' limits."""

from __future__ import annotations

import numpy as np

from memoir_fast.reading.matching.prompt_codes import LETTERS, MEANING_WORDS, SPELLING_WORDS, PromptCode
from memoir_fast.reading.matching.senses import LENGTH

LIMITS = (0.0, 0.05, 0.2, 0.25, 1.0)  # weights that rules ask for
OF_WORDS = "word spelling letters length meaning contrast member number content sense".split()


def random_words(rng: np.random.Generator, count: int, width: int = 16) -> dict[str, np.ndarray]:
    """What `count` words are by themselves; every second one is spelled like the one before it."""
    spelling = rng.integers(0, 1 << 62, (count, SPELLING_WORDS), dtype=np.uint64)
    spelling &= rng.integers(0, 1 << 62, spelling.shape, dtype=np.uint64)
    letters = rng.integers(0, 3, (count, LETTERS)).astype(np.uint8)
    for other in range(1, count, 2):
        spelling[other] = spelling[other - 1] ^ (1 << rng.integers(0, 62, SPELLING_WORDS, dtype=np.uint64))
        letters[other] = letters[other - 1]
        letters[other, 0] += rng.integers(0, 3, dtype=np.uint8)
    sense = rng.normal(size=(count, width))
    sense *= LENGTH / np.linalg.norm(sense, axis=1, keepdims=True)
    return {
        "word": rng.integers(0, 1 << 62, count),
        "spelling": spelling,
        "letters": letters,
        "length": rng.integers(2, 9, count).astype(np.uint8),
        "meaning": np.uint64(1) << rng.integers(0, 6, (count, MEANING_WORDS), dtype=np.uint64),
        "contrast": (rng.random(count) < 0.4).astype(np.uint64),
        "member": np.uint64(1) << rng.integers(0, 2, count, dtype=np.uint64),
        "number": rng.random(count) < 0.2,
        "content": rng.random(count) < 0.6,
        "sense": np.where(rng.random((count, 1)) < 0.8, sense, 0).round().astype(np.int8),
    }


def random_code(
    rng: np.random.Generator, words: dict[str, np.ndarray], length: int, sentences: int = 1, bits: int = 128
) -> PromptCode:
    """A prompt of `length` of these words in up to `sentences` sentences."""
    chosen = rng.integers(0, len(words["word"]), length)
    starts = np.zeros(length, np.int32)
    if length > 1:
        starts[rng.integers(1, length, sentences - 1)] = 1
    sentence = np.cumsum(starts, dtype=np.int32)
    count = int(sentence[-1]) + 1 if length else 0
    code = np.random.default_rng(3).integers(0, 1 << 62, (len(words["word"]), bits // 64), dtype=np.uint64)[chosen]
    code ^= np.uint64(1) << rng.integers(0, 62, code.shape, dtype=np.uint64)
    coded = rng.random(length) < 0.9
    # Mostly any weights: with round ones two windows may cover a prompt equally well, and rounding would choose.
    weight = np.where(rng.random(length) < 0.2, rng.choice(LIMITS, length), rng.random(length))
    return PromptCode(
        **{name: words[name][chosen] for name in OF_WORDS},
        code=np.where(coded[:, None], code, np.uint64(0)),
        coded=coded,
        weight=weight.astype(np.float32),
        name=rng.random(length) < 0.3,
        head=rng.random(length) < 0.3,
        sentence=sentence,
        asks=rng.random(count) < 0.5,
        answer=rng.integers(0, 8, count).astype(np.uint16),
        demands=rng.integers(0, 4, count).astype(np.uint8),
        text=int(rng.integers(0, 3)),
    )
