"""How similar a query's words are to stored prompts' words, by letters, activations and meanings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .key_store import StoredWords
from .prompt_codes import PromptCode
from .senses import LENGTH, product

# Lines of `Likeness.by`.
TOGETHER, SPELLED, CODED, MEANT, SENSED = range(5)


@dataclass(frozen=True)
class Likeness:
    """The similarities of a query's n words with the m words of each of C stored prompts.

    Attributes:
        by: (5, n, m, C) float32 in 0..1, 0 where a prompt has no word. SPELLED: by letters, 1 for the same word. CODED:
            by the activations' codes. MEANT: 1 if the lexicon gives both a common meaning. TOGETHER: the best of these
            three, the last two weighted. SENSED: the cosine of the words' own vectors (`senses.py`), 0 between
            different names.
        excluding: (n, m, C) bool, whether the words exclude each other.
    """

    by: np.ndarray
    excluding: np.ndarray


def likeness(query: PromptCode, stored: StoredWords) -> Likeness:
    """The similarities of all words of a query with those of C stored prompts."""
    q, present, line = query, stored.present, stored.line
    spelled, meant, excluding, alike = (table[:, line] for table in _of_distinct(q, stored.shared))
    by = np.empty((5, *spelled.shape), np.float32)
    np.multiply(spelled, present, out=by[SPELLED])
    exact = by[SPELLED] == 1
    number = stored.of_words("number")
    apart = (q.number[:, None, None] | number) & ~exact
    _coded(q, stored, exact, apart, by[CODED])
    np.multiply(meant, present, out=by[MEANT])
    excluding &= present
    np.minimum(1.3 * by[CODED], 0.9, out=by[TOGETHER])
    np.maximum(by[TOGETHER], 0.75 * by[MEANT], out=by[TOGETHER])
    np.maximum(by[TOGETHER], by[SPELLED], out=by[TOGETHER])
    if excluding.any():
        by[TOGETHER][excluding] = 0
    named = (q.name[:, None, None] | stored.own["name"]) & ~exact
    np.multiply(alike, present & ~named, out=by[SENSED])
    return Likeness(by, excluding)


def _of_distinct(q: PromptCode, key: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """What depends on the words alone: (n, U) spelled float32, meant bool, excluding bool, alike float32."""
    exact = q.word[:, None] == key["word"]
    shared = np.zeros(exact.shape, np.float32)
    for i in range(q.spelling.shape[1]):
        shared += np.bitwise_count(q.spelling[:, None, i] & key["spelling"][:, i])
    ones, key_ones = (np.bitwise_count(side).sum(1, dtype=np.float32) for side in (q.spelling, key["spelling"]))
    dice = 2 * shared / np.maximum(ones[:, None] + key_ones, 1)
    spelled = _spelling(q, key, dice)
    spelled[(q.number[:, None] | key["number"])] = 0
    spelled[exact] = 1
    meant = exact.copy()
    for i in range(q.meaning.shape[1]):
        meant |= (q.meaning[:, None, i] & key["meaning"][:, i]) != 0
    excluding = (q.contrast[:, None] & key["contrast"]) != 0
    if excluding.any():
        excluding &= ((q.member[:, None] & key["member"]) == 0) & ~exact
        meant &= ~excluding
    alike = product(q.sense, key["sense"].T) / LENGTH**2
    alike = np.minimum(np.maximum(alike, 0), 1)
    alike[excluding] = 0
    alike[exact] = 1
    return spelled, meant, excluding, alike


def _spelling(q: PromptCode, key: dict[str, np.ndarray], dice: np.ndarray) -> np.ndarray:
    """(n, U) similarity of different words by letters: 0.95 for swapped letters, 0.9 for one more or less, otherwise up
    to 0.7."""
    result = np.where(dice >= 0.45, np.minimum(dice * np.float32(0.8), np.float32(0.7)), np.float32(0))
    where = np.nonzero((dice >= 0.4) & (q.length[:, None] >= 4) & (key["length"] >= 4))
    if len(where[0]):
        i, j = where
        gap = np.abs(q.letters[i].astype(np.int16) - key["letters"][j]).sum(1)
        likely = np.where(gap == 0, 0.95, np.where((gap == 1) & (dice[where] >= 0.5), 0.9, 0.0))
        result[where] = np.maximum(result[where], likely)
    return result


def _coded(q: PromptCode, stored: StoredWords, exact: np.ndarray, apart: np.ndarray, out: np.ndarray) -> None:
    """Write the similarities by the activations' codes to `out` (n, m, C). The same words are always alike; different
    words of which one has a digit never are."""
    present, own = stored.present, stored.own
    code = np.ascontiguousarray(own["code"][present].T)  # (B/64, words), only of words that are present
    distance = np.zeros((len(q), code.shape[1]), np.uint16)
    for i in range(len(code)):
        distance += np.bitwise_count(q.code[:, i, None] ^ code[i])
    alike = np.maximum(1 - 2 * np.arange(64 * len(code) + 1, dtype=np.float32) / np.float32(64 * len(code)), 0)
    out.fill(0)
    out[:, present] = alike[distance] * (q.coded[:, None] & code.any(0))
    np.maximum(out, np.float32(0.9), out=out, where=exact)
    out[apart] = 0
