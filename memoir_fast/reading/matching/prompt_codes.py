"""What the router keeps of a prompt: each word's code, spelling, rarity and kind, in a few dozen bytes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from .demands import demands
from .lexicon import answer_types, asked_words, contrasts, inquires, is_content, meanings
from .senses import sense, width
from .token_codes import TokenCoder, WordRarity
from .words import Words

SPELLING_WORDS = 2  # of 64 bits
MEANING_WORDS = 3
LETTERS = 28


@dataclass
class PromptCode:
    """A prompt's W words in S sentences.

    Attributes:
        word: (W,) int64, hash of the word in lower case without a possessive or plural s.
        spelling: (W, 2) uint64, its letter pairs as bits.
        letters: (W, 28) uint8, how often each letter occurs.
        length: (W,) uint8, the number of letters.
        meaning: (W, 3) uint64, the lexicon's meanings as bits.
        contrast, member: (W,) uint64, the groups of contrasting words, and the word's places in them, as bits.
        content: (W,) bool, False for a word that only shapes a question.
        sense: (W, D) int8, the word's own vector, see `senses.py`.
        code: (W, B/64) uint64, the activation code.
        coded: (W,) bool, whether the code counts (the first token of a text without BOS has none).
        weight: (W,) float32, importance 0..1.
        number: (W,) bool, whether the word has a digit.
        name: (W,) bool, whether it counts as a name: it has a digit, is very rare, or is capitalised (not counting a
            sentence's first word, or a text in capitals).
        head: (W,) bool, whether it says what is asked for ("opening" and "time" in "What is the opening time of X?").
        sentence: (W,) int32, the number of its sentence.
        asks: (S,) bool, whether the sentence is a question: by its mark, or by how it begins.
        answer: (S,) uint16, the kinds of answer that it asks for, as bits (`lexicon.TYPES`).
        demands: (S,) uint8, the kinds of answer that it certainly demands, as bits (`demands.py`).
        text: hash of all words in order.
    """

    word: np.ndarray
    spelling: np.ndarray
    letters: np.ndarray
    length: np.ndarray
    meaning: np.ndarray
    contrast: np.ndarray
    member: np.ndarray
    content: np.ndarray
    sense: np.ndarray
    code: np.ndarray
    coded: np.ndarray
    weight: np.ndarray
    number: np.ndarray
    name: np.ndarray
    head: np.ndarray
    sentence: np.ndarray
    asks: np.ndarray
    answer: np.ndarray
    demands: np.ndarray
    text: int

    def __len__(self) -> int:
        return len(self.word)

    def state(self) -> dict:
        """The fields by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def last(self, most: int) -> PromptCode:
        """The code of the last `most` words; a document's question is at its end."""
        if len(self) <= most:
            return self
        rows = {n: v[-most:] for n, v in self.state().items() if n not in ("asks", "answer", "demands", "text")}
        first = int(rows["sentence"][0])
        rows["sentence"] = rows["sentence"] - first
        of_sentences = {n: getattr(self, n)[first:] for n in ("asks", "answer", "demands")}
        return PromptCode(**rows, **of_sentences, text=self.text)


class PromptCoder:
    """Turns words and their activation codes into a `PromptCode`.

    Args:
        coder: made the activation codes.
        rarity: tells how rare words are.
    """

    name_surprise = 17.0  # nats; rarer words always count as names

    def __init__(self, coder: TokenCoder, rarity: WordRarity):
        self.coder, self.rarity = coder, rarity

    def code(self, words: Words, bits: np.ndarray) -> PromptCode:
        """The code of one prompt. bits: (W, B/8) uint8, the words' activation codes; all zero for a word without
        one."""
        small = [plain(text) for text in words.texts]
        shouting = sum(t.isupper() for t in words.texts) > 0.6 * max(len(small), 1)
        known = [spelled(word) for word in small]
        number = np.array([any(c.isdigit() for c in w) for w in small], bool)
        capital = np.array(
            [t[0].isupper() and not opens and not shouting for t, opens in zip(words.texts, words.opens, strict=True)],
            bool,
        )
        rare = np.array(
            [
                self.rarity.surprise(w) >= self.name_surprise and not k.meaning_bits
                for w, k in zip(small, known, strict=True)
            ],
            bool,
        )
        weight = np.array([self.rarity.weight(w) for w in small], np.float32)
        weight[number] = np.maximum(weight[number], 0.7)
        weight[capital] = np.maximum(weight[capital], 0.5)
        # np.pad would take a quarter of this function's time.
        padded = np.zeros((len(bits), bits.shape[1] + -bits.shape[1] % 8), np.uint8)
        padded[:, : bits.shape[1]] = bits
        coded = np.asarray(bits.any(1))
        sentences = by_sentence(small, words.sentence)
        return PromptCode(
            word=np.array([k.word for k in known], np.int64),
            spelling=np.array([k.spelling for k in known], np.uint64).reshape(-1, SPELLING_WORDS),
            letters=np.array([k.letters for k in known], np.uint8).reshape(-1, LETTERS),
            length=np.array([k.length for k in known], np.uint8),
            meaning=np.array([k.meaning for k in known], np.uint64).reshape(-1, MEANING_WORDS),
            contrast=np.array([k.contrast[0] for k in known], np.uint64),
            member=np.array([k.contrast[1] for k in known], np.uint64),
            content=np.array([is_content(w) for w in small], bool),
            sense=np.array([sense(w) for w in small], np.int8).reshape(-1, width()),
            code=padded.view(np.uint64), coded=coded, weight=weight, number=number, name=number | capital | rare,
            head=heads(words.sentence, sentences),
            sentence=np.array(words.sentence, np.int32), asks=np.array([marked or inquires(s) for marked, s in zip(words.asks, sentences, strict=True)], bool),
            answer=np.array([answer_types(s) for s in sentences], np.uint16),
            demands=np.array([demands(s) for s in sentences], np.uint8),
            text=_hash(" ".join(small)),
        )  # fmt: skip


def by_sentence(words: list[str], sentence: list[int]) -> list[str]:
    """The sentences as text. sentence: each word's sentence, ascending from 0."""
    found: list[list[str]] = []
    for word, number in zip(words, sentence, strict=True):
        if number == len(found):
            found.append([])
        found[number].append(word)
    return [" ".join(one) for one in found]


def heads(sentence: list[int], texts: list[str]) -> np.ndarray:
    """(W,) bool: the words that say what is asked for. sentence: each word's sentence; texts: the sentences in lower
    case."""
    found = np.zeros(len(sentence), bool)
    firsts = np.searchsorted(sentence, range(len(texts)))
    for first, text in zip(firsts.tolist(), texts, strict=True):
        found[[first + place for place in asked_words(text)]] = True
    return found


@dataclass(frozen=True)
class _Spelled:
    word: int
    spelling: tuple
    letters: tuple
    length: int
    meaning: tuple
    meaning_bits: int
    contrast: tuple


_DIGITS = {w: str(n) for n, w in enumerate("two three four five six seven eight nine ten eleven twelve".split(), 2)}
_DIGITS |= {w: str(n) for n, w in enumerate("second third fourth fifth sixth seventh eighth ninth tenth".split(), 2)}


def plain(text: str) -> str:
    """The word in lower case, without a possessive 's. Small numbers become digits ("three", "third")."""
    small = re.sub(r"['’]s$", "", text.lower())
    return _DIGITS.get(small, small)


@lru_cache(1 << 16)
def spelled(word: str) -> _Spelled:
    """What is known about a word from its letters alone."""
    stem = word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
    bits = 0
    for pair in _pairs(stem):
        bits |= 1 << _hash(pair) % (64 * SPELLING_WORDS)
    letters = [0] * LETTERS
    for c in stem:
        letters[ord(c) - 97 if "a" <= c <= "z" else 26 + ord(c) % 2] += 1
    found = meanings(word)
    return _Spelled(
        _hash(stem), _cut(bits, SPELLING_WORDS), tuple(min(n, 255) for n in letters), min(len(stem), 255),
        _cut(found, MEANING_WORDS), found, contrasts(word),
    )  # fmt: skip


def _pairs(word: str) -> set[str]:
    """Pairs of letters that are adjacent (in alphabetical order, so that a swap keeps most) or one apart, and the
    word's ends."""
    near = {"".join(sorted(word[i : i + 2])) for i in range(len(word) - 1)}
    far = {word[i] + "_" + word[i + 2] for i in range(len(word) - 2)}
    return near | far | {"^" + word[:1], word[-1:] + "$", "^" + word[:3]}


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def _cut(bits: int, number: int) -> tuple:
    return tuple(bits >> 64 * i & (1 << 64) - 1 for i in range(number))
