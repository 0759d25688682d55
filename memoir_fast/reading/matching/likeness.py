"""How like the words of a query are to those of stored prompts: by letters, activations, and meanings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .prompt_codes import PromptCode
from .senses import LENGTH


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
