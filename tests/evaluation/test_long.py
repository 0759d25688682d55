"""The main job's promise on the real model and real data; minutes long, run by `make test-long`."""

from __future__ import annotations

import pytest

from memoir_fast import MemoirModel, load_texts
from memoir_fast.evaluation.facts import load_facts
from memoir_fast.evaluation.protocol import evaluate
from tests.support.data import data_file


@pytest.mark.long
def test_a_hundred_zsre_edits(smollm2):
    model = MemoirModel(*smollm2, background=load_texts(data_file("background.jsonl")))
    try:
        result = evaluate(model, load_facts(data_file("zsre.jsonl"), 100), quiet=True)
    finally:
        model.detach()
    assert result["reliability"] >= 0.84
    assert result["generalization"] >= 0.76
    assert result["locality"] >= 0.99
