"""Judgements on a pair of prompts besides its probability: same question, mere mention, impossible answer, words
covered."""

from __future__ import annotations

import numpy as np

from .demands import ODDS
from .key_store import KeyStore
from .likeness import TOGETHER
from .pairs import Pairs
from .prompt_codes import PromptCode

# Factor on the odds of a match if a word of the query excludes one of the stored prompt's.
ODDS_EXCLUDING = 0.1


def only_mentions(found: dict[str, np.ndarray]) -> np.ndarray:
    """(C,) bool: whether the query merely mentions a stored prompt's subject.

    That is so if it is not a question, its best sentence is mostly about something else, and it has no word like those
    that say what the stored prompt asks for. Without this rule, any text that names Australia would match "The capital
    of Australia is", since the name is nearly all of that statement's weight.
    """
    missing = (found["content_asked"] > 0) & (found["content_soft"] >= 0.5 * found["content_asked"])
    return missing & ~found["window_asks"] & (found["query_cover"] < 0.4)


def asks_more(found: dict[str, np.ndarray]) -> np.ndarray:
    """(C,) bool: whether the stored prompt is a bare name ("Japan, in"), and the query says more than that.

    Such a prompt asks for nothing by itself, so its only word is in any question about the same name.
    """
    bare = (
        (found["content_asked"] == 0) & (found["names_present"] == 1) & (found["key_types"] == 0) & ~found["key_asks"]
    )
    return bare & (found["content_left_back"] > 0)


def contradicted(found: dict[str, np.ndarray]) -> np.ndarray:
    """(C,) bool: whether the query demands a kind of answer that the stored answer certainly is not."""
    return (found["core_demands"] != 0) & ((found["core_demands"] & found["key_offers"]) == 0)


def doubted(likely: np.ndarray, contradicted: np.ndarray, excluded: np.ndarray) -> np.ndarray:
    """(C,) float64: the probabilities `likely` (C,), with lower odds where the query demands another kind of answer, or says a word that excludes one
    of the stored prompt's ("cardiology" beside "radiology") and not that one.

    Of 1,332 rewordings of five data sets, 4 say such a word ("until when is it open", stored as "when does it close").

    Args:
        contradicted: (C,) bool, see above.
        excluded: (C,) bool, the feature "contrast".
    """
    odds = np.where(contradicted, ODDS, 1.0) * np.where(excluded, ODDS_EXCLUDING, 1.0)
    return odds * likely / (odds * likely + 1 - likely)


def covered_words(query: PromptCode, table: KeyStore, row: int) -> tuple[list[bool], list[bool]]:
    """For explanations: which of the stored prompt's words the query's best window has, and which of the query's words
    are important, in the window and missing in the stored prompt."""
    pairs = Pairs.of(query, table.take(np.array([row])))
    has = pairs.to_key[TOGETHER][:, 0] >= 0.6
    added = np.zeros(len(pairs.query), bool)
    added[pairs.at[:, 0]] |= (
        pairs.inside[:, 0] & (pairs.to_query[TOGETHER][:, 0] < 0.6) & (pairs.query_weight[:, 0] > 0.2)
    )
    return has.tolist(), added.tolist()
