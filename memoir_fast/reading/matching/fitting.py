"""Fits the pair classifier on generated near misses; `benchmarks/quality/fit_matcher.py` runs it.

The network that the package ships was made this way, with SmolLM2's activations. Its features mean the same for every
model, so other models need no network of their own.
"""

from __future__ import annotations

import numpy as np

from .candidates import Candidates
from .classifier import MEMBERS, Classifier
from .key_store import KeyStore
from .near_misses import NearMisses
from .prompt_codes import PromptCode
from .verify import features

_IMPORTANCE = {
    "wording": 0.7,
    "rewording": 1.2,
    "subject": 2.5,
    "relation": 0.5,
    "mention": 1.2,
    "namesake": 2.0,
    "unrelated": 2.0,
}
_BACKGROUND = 2.0  # factor for rewordings of background questions, which are few beside those of the classes
KEYS_FITTED = 3  # facts per relation that the shipped network is fitted on


def training_pairs(
    texts: NearMisses, keys: list[PromptCode], queries: list[PromptCode], seed: int = 0
) -> tuple[np.ndarray, ...]:
    """Pairs of queries and keys to fit on: likely candidates and a few others.

    Args:
        texts: the generated texts.
        keys, queries: the codes of its keys and queries, in order.
        seed: of the choice of other keys.

    Returns:
        features (N, F) float32, labels (N,) bool, and each pair's query (N,) and key (N,) by number.
    """
    store, candidates = KeyStore(keys), Candidates(keys[0].code.shape[1] * 64)
    for code in keys:
        candidates.add(code)
    rows_of: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(texts.keys):
        rows_of.setdefault(key.fact, []).append(row)
    draw, parts = np.random.default_rng(seed), []
    for number, query in enumerate(queries):
        own = rows_of.get(texts.queries[number].fact, [])
        chosen = [candidates.lexical(query, 8), candidates.near(query, 4), draw.choice(len(keys), 4, replace=False)]
        rows = np.unique(np.concatenate([*chosen, own]).astype(np.int64))
        labels = np.array([texts.keys[row].fact == texts.queries[number].fact for row in rows])
        parts.append((features(query, store, rows), labels, np.full(len(rows), number), rows))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def fit_classifier(texts: NearMisses, keys: list[PromptCode], queries: list[PromptCode], seed: int = 0) -> Classifier:
    """The pair classifier, fitted twice: the second time with more weight on negatives that the first found likely.

    Arguments as for `training_pairs`.
    """
    x, y, query, _ = training_pairs(texts, keys, queries, seed)
    kinds = np.array([_IMPORTANCE[q.kind.split("/")[0]] for q in texts.queries])[query]
    background = np.array([q.relation.startswith("background:") for q in texts.queries])[query]
    kinds = np.where(y & background, _BACKGROUND * kinds, kinds)
    hard = np.ones(len(y))
    for members in (1, MEMBERS):
        weights = np.where(y, kinds, kinds * hard)
        weights[y] /= weights[y].sum()
        weights[~y] *= 1.5 / weights[~y].sum()
        classifier = Classifier.fit(x, y, weights, seed=seed, members=members)
        hard = 0.12 + classifier.probabilities(x)
    return classifier
