"""The near misses come from one seed, and a network fitted on them tells them apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memoir_fast.reading.matching.fitting import fit_classifier, training_pairs
from memoir_fast.reading.matching.matcher import Matcher
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
