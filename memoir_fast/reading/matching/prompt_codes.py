"""What the router keeps of a prompt: for each word its code, spelling, rarity and kind, in a few dozen bytes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from .demands import demands
from .lexicon import answer_types, asked_words, contrasts, is_content, meanings
from .senses import sense, width
from .token_codes import TokenCoder, WordRarity
from .words import Words

SPELLING_WORDS = 2  # of 64 bits
MEANING_WORDS = 3
LETTERS = 28


@dataclass
class PromptCode:
    """The W words of a prompt in S sentences; rows of arrays belong to words.

    Attributes:
        word: (W,) int64, hash of the word in small letters without a possessive or plural s.
        spelling: (W, 2) uint64, bits of its letter pairs.
        letters: (W, 28) uint8, how often each letter occurs.
        length: (W,) uint8, number of letters.
        meaning: (W, 3) uint64, bits of the lexicon's meanings.
        contrast, member: (W,) uint64, bits of the groups of excluding words, and of the word's places in them.
        content: (W,) bool, no word that only shapes a question.
        sense: (W, D) int8, what the word means by itself, see `senses.py`.
        code: (W, B/64) uint64, the activations' signs.
        coded: (W,) bool, whether the code counts (the first token of a text without BOS has none).
        weight: (W,) float32, importance 0 ... 1.
        number: (W,) bool, holds a digit.
        name: (W,) bool, a capital that is not the sentence's first word or the whole text's case, a digit, or very rare.
        head: (W,) bool, says what is asked for ("opening time" in "What is the opening time of X?").
        sentence: (W,) int16.
        asks: (S,) bool, the sentence ends with a question mark.
        answer: (S,) uint16, kinds of answer that it asks for; demands: (S,) uint8, those that it surely demands, see `demands.py`.
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
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def last(self, most: int) -> PromptCode:
        """At most so many words, the last ones: a document's question stands at its end."""
        if len(self) <= most:
            return self
        rows = {n: v[-most:] for n, v in self.state().items() if n not in ("asks", "answer", "demands", "text")}
        first = int(rows["sentence"][0])
        rows["sentence"] = rows["sentence"] - first
        of_sentences = {n: getattr(self, n)[first:] for n in ("asks", "answer", "demands")}
        return PromptCode(**rows, **of_sentences, text=self.text)


class PromptCoder:
    """Words and their activations to a PromptCode.

    Args:
        coder: of the activations.
        rarity: of the words.
    """

    name_surprise = 17.0  # nats: rarer words are taken for names in any case

    def __init__(self, coder: TokenCoder, rarity: WordRarity):
        self.coder, self.rarity = coder, rarity

    def code(self, words: Words, bits: np.ndarray) -> PromptCode:
        """The code of one prompt. bits: (W, B/8) uint8, the words' activation codes; all zero where a word has none."""
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
        code = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.uint64)
        coded = np.asarray(bits.any(1))
        sentences = [
            " ".join(w for w, s in zip(small, words.sentence, strict=True) if s == n) for n in range(len(words.asks))
        ]
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
            code=code, coded=coded, weight=weight, number=number, name=number | capital | rare,
            head=_heads(words.sentence, sentences),
            sentence=np.array(words.sentence, np.int16), asks=np.array(words.asks, bool),
            answer=np.array([answer_types(s) for s in sentences], np.uint16),
            demands=np.array([demands(s) for s in sentences], np.uint8),
            text=_hash(" ".join(small)),
        )  # fmt: skip


def _heads(sentence: list[int], texts: list[str]) -> np.ndarray:
    """(W,) bool, the words that say what is asked for. sentence: (W,) number of each word's; texts: of each sentence."""
    found = np.zeros(len(sentence), bool)
    for number, text in enumerate(texts):
        if number in sentence:
            first = sentence.index(number)
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
    """The word in small letters, without a possessive 's; small numbers in words as digits (also: second, third)."""
    small = re.sub(r"['’]s$", "", text.lower())
    return _DIGITS.get(small, small)


@lru_cache(1 << 16)
def spelled(word: str) -> _Spelled:
    """What is known of a word from its letters alone."""
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
    """Pairs of neighbours and of next but one letters, in alphabetical order (a swap keeps most of them), and both ends."""
    near = {"".join(sorted(word[i : i + 2])) for i in range(len(word) - 1)}
    far = {word[i] + "_" + word[i + 2] for i in range(len(word) - 2)}
    return near | far | {"^" + word[:1], word[-1:] + "$", "^" + word[:3]}


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def _cut(bits: int, number: int) -> tuple:
    return tuple(bits >> 64 * i & (1 << 64) - 1 for i in range(number))
