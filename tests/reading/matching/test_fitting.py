"""The near misses come from one seed, and a network fitted on them tells them apart."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from memoir_fast.reading.matching.fitting import fit_classifier, training_pairs
from memoir_fast.reading.matching.matcher import Matcher
from memoir_fast.reading.matching.near_miss_subjects import sibling, subjects
from memoir_fast.reading.matching.near_misses import make_near_misses, wordings
from memoir_fast.reading.matching.token_codes import TokenCoder

RELATIONS = [name for name in wordings() if name.startswith("company:")][:8]


def test_one_seed_gives_the_same_texts_and_another_others():
    one, again, other = (make_near_misses(seed, relations=RELATIONS) for seed in (3, 3, 4))
    assert one == again != other
    kinds = {asked.kind.split("/")[0] for asked in one.queries}
    assert {"wording", "rewording", "subject", "relation", "namesake"} <= kinds
    facts = {asked.fact for asked in one.keys}
    right = [asked for asked in one.queries if asked.kind.split("/")[0] in ("wording", "rewording")]
    assert all(asked.fact in facts for asked in right) and {asked.relation for asked in one.keys} <= set(RELATIONS)


def test_a_class_has_the_same_texts_whatever_else_is_fitted_on():
    """So classes can be left out, or added, without another draw of all others."""
    alone = make_near_misses(3, relations=RELATIONS)
    among = make_near_misses(3, relations=[*RELATIONS, "person:0", "band:0", "band:1"])
    assert among.keys[: len(alone.keys)] == alone.keys and len(among.keys) > len(alone.keys)
    assert among.queries[: len(alone.queries)] == alone.queries


def test_each_relation_has_several_wordings_that_no_other_of_its_class_has():
    phrased = wordings()
    for relation, own in phrased.items():
        assert len(own) >= 4 and all(wording.count("{s}") == 1 for wording in own), relation
    by_class: dict[str, list[str]] = {}
    for relation, own in phrased.items():
        by_class.setdefault(relation.split(":")[0], []).extend(own)
    twice = {one for some in by_class.values() for one in some if some.count(one) > 1}
    assert not twice


@pytest.mark.parametrize("name", ["hotel", "machine", "battle"])
def test_similar_subjects_of_patterned_classes_differ_in_one_word_of_a_kind(name):
    rng = random.Random(0)
    names = subjects(name, rng, 30)
    pairs = [(one.split(" "), sibling(name, one, names, rng).split(" ")) for one in names]
    close = [sum(a != b for a, b in zip(*pair, strict=True)) == 1 for pair in pairs if len(pair[0]) == len(pair[1])]
    assert sum(close) > 15


@pytest.fixture(scope="module")
def coded(smollm2):
    """The texts' codes with random activations: letters and lists remain."""
    tokenizer = smollm2[1]
    rows = torch.randn(len(tokenizer), 64, generator=torch.Generator().manual_seed(0))
    matcher = Matcher(tokenizer, 0, TokenCoder.fit(rows), torch.full((len(tokenizer),), -12.0))
    near = make_near_misses(0, keys_per_relation=3, relations=RELATIONS)

    def code(text):
        tokens = tokenizer(text)["input_ids"]
        return matcher.read(tokens, rows[tokens])[1]

    return near, [code(asked.text) for asked in near.keys], [code(asked.text) for asked in near.queries]


def test_a_fit_is_repeatable_and_parts_right_from_wrong(coded):
    near, keys, queries = coded
    one, again = (fit_classifier(near, keys, queries) for _ in range(2))
    assert all(torch.equal(one.state[name], again.state[name]) for name in one.state)
    x, y, _, _ = training_pairs(near, keys, queries)
    likely = one.probabilities(x)
    assert np.mean(likely[y] >= 0.5) > 0.8 and np.mean(likely[~y] >= 0.5) < 0.1
