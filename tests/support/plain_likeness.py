"""Words of a query and of stored prompts compared one with another, and the query's best window, written plainly; see `plain_pairs.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memoir_fast.reading.matching.prompt_codes import PromptCode
from memoir_fast.reading.matching.senses import LENGTH

OWN = (
    "code coded weight name head".split()
)  # of a word in its prompt; the other fields are kept once for all prompts that hold the word
SHARED = "word spelling letters length meaning contrast member number content sense".split()


def padded(stored: list[PromptCode]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(C, m, ...) arrays of the prompts' words, and (C, m) bool, which of them are words. A word and its plural count as one word: what is
    known of it is what was known where it stood first."""
    most = max(map(len, stored))
    present = np.arange(most) < np.array([len(code) for code in stored])[:, None]
    first: dict[int, tuple[PromptCode, int]] = {}
    for code in stored:
        for place, word in enumerate(code.word.tolist()):
            first.setdefault(word, (code, place))
    arrays = {}
    for name in OWN + SHARED:
        like = getattr(stored[0], name)
        arrays[name] = np.zeros((len(stored), most, *like.shape[1:]), like.dtype)
        for row, code in enumerate(stored):
            for place, word in enumerate(code.word.tolist()):
                origin, at = (code, place) if name in OWN else first[word]
                arrays[name][row, place] = getattr(origin, name)[at]
    return arrays, present


@dataclass(frozen=True)
class Likeness:
    """(C, n, m) arrays for n query words and the m words of each of C stored prompts; float32 in 0..1 where nothing else is said.

    Attributes:
        spelled: by their letters, 1 for the same word; coded: by their activations' codes; meant: 1 where a list gives them a meaning in
            common; together: the best of these; sensed: by the cosine of their own vectors (`senses.py`), 0 between different names.
        excluding: bool, the words exclude each other.
    """

    spelled: np.ndarray
    coded: np.ndarray
    meant: np.ndarray
    together: np.ndarray
    excluding: np.ndarray
    sensed: np.ndarray


def likeness(query: PromptCode, key: dict[str, np.ndarray], present: np.ndarray) -> Likeness:
    """Of all words of a query (n) and of C stored prompts (m each at most).

    Args:
        key, present: as `KeyStore.take` gives them.
    """
    q = query
    both = present[:, None, :]
    exact = (q.word[None, :, None] == key["word"][:, None, :]) & both
    shared = sum(
        np.bitwise_count(q.spelling[None, :, None, i] & key["spelling"][:, None, :, i]).astype(np.float32)
        for i in range(q.spelling.shape[1])
    )
    ones = np.bitwise_count(q.spelling).sum(1).astype(np.float32)[None, :, None]
    key_ones = np.bitwise_count(key["spelling"]).sum(2).astype(np.float32)[:, None, :]
    dice = 2 * shared / np.maximum(ones + key_ones, 1)
    spelled = np.where(exact, 1.0, _spelling(q, key, dice, present)).astype(np.float32)
    numbers = (q.number[None, :, None] | key["number"][:, None, :]) & ~exact
    spelled[numbers] = 0.0
    bits = 64.0 * q.code.shape[1]
    distance = np.zeros(exact.shape, np.float32)
    for i in range(q.code.shape[1]):
        distance += np.bitwise_count(q.code[None, :, None, i] ^ key["code"][:, None, :, i])
    coded = np.where(q.coded[None, :, None] & key["coded"][:, None, :], np.clip(1 - 2 * distance / bits, 0, 1), 0.0)
    coded = np.where(numbers | ~both, 0.0, np.where(exact, np.maximum(coded, 0.9), coded)).astype(np.float32)
    meant = np.zeros(exact.shape, bool)
    for i in range(q.meaning.shape[1]):
        meant |= (q.meaning[None, :, None, i] & key["meaning"][:, None, :, i]) != 0
    meant = (meant | exact) & both
    excluding = (q.contrast[None, :, None] & key["contrast"][:, None, :]) != 0
    excluding &= ((q.member[None, :, None] & key["member"][:, None, :]) == 0) & ~exact & both
    meant &= ~excluding
    together = np.maximum(np.maximum(spelled, 0.75 * meant), np.minimum(1.3 * coded, 0.9))
    together = np.where(excluding, 0.0, together) * both
    alike = (
        np.einsum("nd,cmd->cnm", q.sense.astype(np.float32), key["sense"].astype(np.float32), optimize=True) / LENGTH**2
    )
    alike = np.where(excluding, 0.0, alike)
    named = (q.name[None, :, None] | key["name"][:, None, :]) & ~exact
    sensed = np.where(exact, 1.0, np.where(named, 0.0, np.clip(alike, 0, 1))) * both
    return Likeness(
        (spelled * both).astype(np.float32),
        coded,
        meant.astype(np.float32),
        together.astype(np.float32),
        excluding,
        sensed.astype(np.float32),
    )


def _spelling(q: PromptCode, key: dict[str, np.ndarray], dice: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Similarity of different words by their letters: swapped letters 0.95, one more or less 0.9, other likeness up to 0.7."""
    result = np.where(dice >= 0.45, np.minimum(dice * 0.8, 0.7), 0.0)
    where = np.nonzero(
        (dice >= 0.4) & present[:, None, :] & (q.length[None, :, None] >= 4) & (key["length"][:, None, :] >= 4)
    )
    if len(where[0]):
        c, i, j = where
        gap = np.abs(q.letters[i].astype(np.int16) - key["letters"][c, j]).sum(1)
        likely = np.where(gap == 0, 0.95, np.where((gap == 1) & (dice[where] >= 0.5), 0.9, 0.0))
        result[where] = np.maximum(result[where], likely)
    return result


@dataclass(frozen=True)
class Pairs:
    """One query beside C stored prompts.

    Attributes:
        query: n words; key, present: the stored prompts' words, as `KeyStore.take` gives them; like: of all words.
        first, last, behind: of the query's best window for each stored prompt, see `best_windows`.
        inside: (C, n) bool, the window; core: the same from the first to the last word that matches well.
    """

    query: PromptCode
    key: dict[str, np.ndarray]
    present: np.ndarray
    like: Likeness
    first: np.ndarray
    last: np.ndarray
    behind: np.ndarray
    inside: np.ndarray
    core: np.ndarray

    @classmethod
    def of(cls, query: PromptCode, key: dict[str, np.ndarray], present: np.ndarray) -> Pairs:
        like = likeness(query, key, present)
        first, last, behind = best_windows(query, like.together, key["weight"] * present)
        position = np.arange(len(query))
        inside = (position >= first[:, None]) & (position < last[:, None])
        strong = inside & (like.together.max(2) * inside >= 0.7) & (query.weight > 0.05)
        start = np.where(strong.any(1), strong.argmax(1), first)
        stop = np.where(strong.any(1), len(query) - strong[:, ::-1].argmax(1), last)
        core = (position >= start[:, None]) & (position < stop[:, None])
        return cls(query, key, present, like, first, last, behind, inside, core)

    @property
    def weight(self) -> np.ndarray:
        """(C, m) of the stored prompts' words."""
        return self.key["weight"] * self.present

    def to_key(self, values: np.ndarray) -> np.ndarray:
        """(C, m): the best of each stored word's values (C, n, m) inside the window."""
        return (values * self.inside[:, :, None]).max(1)

    def to_query(self, values: np.ndarray) -> np.ndarray:
        """(C, n): the best of each query word's values, 0 outside of the window."""
        return values.max(2) * self.inside


def best_windows(
    query: PromptCode, together: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of C keys the best run of one or two sentences of the query.

    Returns:
        (C,) first word, (C,) end, and (C,) number of the first sentence behind it. Coverage of the key counts, minus a
        little for a second sentence; the later window wins where two are nearly equal.
    """
    starts = np.flatnonzero(np.diff(query.sentence, prepend=-1))
    ends = np.append(starts[1:], len(query))
    best = np.maximum.reduceat(together, starts, axis=1)  # (C, S, m)
    total = np.maximum(weight.sum(1), 1e-6)[:, None]
    single = (best * weight[:, None, :]).sum(2) / total
    late = 0.02 * np.arange(len(starts)) / len(starts)
    scores, spans = [single + late], [(i, i + 1) for i in range(len(starts))]
    if len(starts) > 1:
        pairs = np.maximum(best[:, :-1], best[:, 1:])
        scores.append((pairs * weight[:, None, :]).sum(2) / total - 0.08 + late[1:])
        spans += [(i, i + 2) for i in range(len(starts) - 1)]
    chosen = np.concatenate(scores, 1).argmax(1)
    spans = np.array(spans)[chosen]
    return starts[spans[:, 0]], ends[spans[:, 1] - 1], spans[:, 1]
