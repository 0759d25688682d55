"""One query and some stored prompts: how similar their words are, and which part of the query is about each prompt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .key_store import StoredWords
from .likeness import TOGETHER, likeness
from .prompt_codes import PromptCode

MOST_QUERY_WORDS = 320


@dataclass(frozen=True)
class Pairs:
    """One query of n words, and C stored prompts of at most m words. For each prompt, only the query's best window of
    at most w words counts.

    Attributes:
        query: the query's last words.
        stored: the stored prompts' words.
        first, last, behind: (C,), the windows, see `best_windows`.
        at: (w, C) or (w, 1), the query word at each place of a window; without meaning where `inside` is False.
        inside: (w, C) bool, False after the window's end.
        like: (5, w, m, C) float32, see `Likeness.by`; 0 outside the window.
        excluding: (w, m, C) bool, see `Likeness`; False outside the window.
        meant_anywhere: (m, C) float32, 1 if any word of the query shares a meaning with the stored word.
    """

    query: PromptCode
    stored: StoredWords
    first: np.ndarray
    last: np.ndarray
    behind: np.ndarray
    at: np.ndarray
    inside: np.ndarray
    like: np.ndarray
    excluding: np.ndarray
    meant_anywhere: np.ndarray

    @classmethod
    def of(cls, query: PromptCode, stored: StoredWords) -> Pairs:
        """Compare a query that has words with prompts from `KeyStore.take`."""
        query = query.last(MOST_QUERY_WORDS)
        like = likeness(query, stored)
        by, excluding, count = like.by, like.excluding, stored.present.shape[1]
        anywhere = np.maximum.reduce(by[3], axis=0)
        if len(query.asks) == 1:
            end, at = np.full(count, len(query)), np.arange(len(query))[:, None]
            inside = np.ones((len(query), count), bool)
            return cls(query, stored, end - end, end, end // end, at, inside, by, excluding, anywhere)
        first, last, behind = best_windows(query, by[TOGETHER], stored.own["weight"] * stored.present)
        places = np.arange(int((last - first).max()))[:, None]
        inside = places < last - first
        at = np.minimum(first + places, len(query) - 1)
        words, keys, prompts = at[:, None], np.arange(len(stored.present))[:, None], np.arange(count)
        shown = inside[:, None]
        return cls(
            query,
            stored,
            first,
            last,
            behind,
            at,
            inside,
            by[:, words, keys, prompts] * shown,
            excluding[words, keys, prompts] & shown,
            anywhere,
        )

    @cached_property
    def to_key(self) -> np.ndarray:
        """(5, m, C): each stored word's best similarity with a word of the window."""
        return np.maximum.reduce(self.like, axis=1)

    @cached_property
    def to_query(self) -> np.ndarray:
        """(5, w, C): each window word's best similarity with a stored word."""
        return np.maximum.reduce(self.like, axis=2)

    @cached_property
    def weight(self) -> np.ndarray:
        """(m, C) float32: the stored words' weights, 0 where there is no word."""
        return self.stored.own["weight"] * self.stored.present

    @cached_property
    def query_weight(self) -> np.ndarray:
        """(w, C) float32: the window words' weights, 0 outside the window."""
        return self.query.weight[self.at] * self.inside

    @cached_property
    def named(self) -> np.ndarray:
        """(m, C) bool: whether a stored word is a name."""
        return self.stored.own["name"] & self.stored.present

    @cached_property
    def query_named(self) -> np.ndarray:
        """(w, C) bool: whether a window word is a name."""
        return self.query.name[self.at] & self.inside

    @cached_property
    def core(self) -> np.ndarray:
        """(w, C) bool: the window from its first to its last word that matches well; all of it if none does."""
        strong = (self.to_query[TOGETHER] >= 0.7) & (self.query_weight > 0.05)
        # A word up to this one matches well, and so does one from this one on.
        begun = np.logical_or.accumulate(strong, axis=0)
        goes_on = np.logical_or.accumulate(strong[::-1], axis=0)[::-1]
        return np.where(begun[-1], begun & goes_on, self.inside)


def best_windows(
    query: PromptCode, together: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of C stored prompts, the best window: one or two consecutive sentences of the query.

    The window that covers most of the prompt wins. A second sentence costs a little, and of nearly equal windows the
    later wins.

    Args:
        together: (n, m, C), the words' similarities (TOGETHER).
        weight: (m, C), the stored words' weights.

    Returns:
        the first word (C,), the place after the last word (C,), and the number of the first sentence after the window
        (C,).
    """
    starts = np.flatnonzero(np.diff(query.sentence, prepend=-1))
    ends = np.append(starts[1:], len(query))
    best = np.maximum.reduceat(together, starts, axis=0)  # (S, m, C)
    total = np.maximum(weight.sum(0), 1e-6)
    late = (0.02 * np.arange(len(starts)) / len(starts))[:, None]
    scores, spans = [(best * weight).sum(1) / total + late], [(i, i + 1) for i in range(len(starts))]
    if len(starts) > 1:
        pairs = np.maximum(best[:-1], best[1:])
        scores.append((pairs * weight).sum(1) / total - 0.08 + late[1:])
        spans += [(i, i + 2) for i in range(len(starts) - 1)]
    chosen = np.array(spans)[np.concatenate(scores).argmax(0)]
    return starts[chosen[:, 0]], ends[chosen[:, 1] - 1], chosen[:, 1]
