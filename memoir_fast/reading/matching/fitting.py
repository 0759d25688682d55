"""Fits the classifier of pairs on near misses that the project makes itself; `benchmarks/quality/fit_matcher.py` runs it.

The network that the package ships came from there, with SmolLM2's activations. It looks at features that mean the same for every model,
so another model needs no fit of its own.
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
    "mention": 0.6,
    "unrelated": 2.0,
}


def training_pairs(
    texts: NearMisses, keys: list[PromptCode], queries: list[PromptCode], seed: int = 0
) -> tuple[np.ndarray, ...]:
    """Features (N, F), labels (N,) bool, query of each pair (N,) and key of each pair (N,): likely candidates and a few of the others."""
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
    """The pair classifier: fitted twice, the second time with more weight on the negatives that the first found likely."""
    x, y, query, _ = training_pairs(texts, keys, queries, seed)
    kinds = np.array([_IMPORTANCE[q.kind.split("/")[0]] for q in texts.queries])[query]
    hard = np.ones(len(y))
    for members in (1, MEMBERS):
        weights = np.where(y, kinds, kinds * hard)
        weights[y] /= weights[y].sum()
        weights[~y] *= 1.5 / weights[~y].sum()
        classifier = Classifier.fit(x, y, weights, seed=seed, members=members)
        hard = 0.1 + classifier.probabilities(x)
    return classifier
