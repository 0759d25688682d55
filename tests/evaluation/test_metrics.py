"""Facts and metrics on a known model."""

from __future__ import annotations

import pytest

from memoir_fast.evaluation import metrics
from memoir_fast.evaluation.facts import load_facts
from tests.support.data import facts_file
from tests.support.models import tiny_memoir


def test_facts_are_read_and_checked(tmp_path):
    facts = load_facts(facts_file("zsre.jsonl"), 10)
    assert len(facts) == 10 and all(f.rephrase and f.unrelated and f.unrelated_answer for f in facts)
    path = tmp_path / "f.jsonl"
    for text, says in (("{", "line 1: not JSON"), ('{"prompt": "a"}', "target / target_new is missing"),
                       ('{"prompt": "a", "target": 3}', "must be text"), ("", "0 facts")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(ValueError, match=says):
            load_facts(path)
    with pytest.raises(ValueError, match="no file"):
        load_facts(tmp_path / "absent")


def test_metrics_on_a_known_model():
    model = tiny_memoir()
    prompt, target = "w100 w101 w102", "w150 w151"
    with model.disabled():
        before = metrics.predictions(model, [(prompt, target)])
        perplexity = metrics.perplexity(model, [(prompt, target)])[0]
    model.edit(prompt, target)
    assert metrics.token_accuracy(model, [(prompt, target)]) == [1.0]
    after = metrics.perplexity(model, [(prompt, target)])[0]
    assert 1 <= after < perplexity / 2
    assert metrics.agreement(before, [model.encoder.prompt(target).tokens])[0] < 1
