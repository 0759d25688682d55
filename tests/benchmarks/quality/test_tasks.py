"""The tasks' scores against counts by hand."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.quality import tasks
from tests.benchmarks.support import ROWS, pair
from tests.support.data import data_file
from tests.support.models import tiny_memoir


def test_scores_of_every_task():
    model = tiny_memoir(steps=60)
    base = tasks.base_answers(model, ROWS)
    before = tasks.score("counterfact", model, ROWS, base)
    assert before["locality"] == 1.0 and before["reliability"] < 1
    for row in ROWS:
        model.edit(row.prompt, row.target)
    after = tasks.score("counterfact", model, ROWS, base)
    assert after["reliability"] == 1.0 == after["efficacy"] == after["locality"]
    assert after["average"] == pytest.approx((2 + after["generalization"]) / 3)
    assert after["neighbourhood"] == before["neighbourhood"]  # unrelated prompts read nothing
    temporal = tasks.score("temporal", model, ROWS, base)
    by_hand = []
    for row in range(2):
        tokens = torch.tensor([model.encoder.pair(*pair(row)).tokens])
        with torch.no_grad():
            logits = model(input_ids=tokens, prompt_mask=torch.tensor([[True, True, True, False]])).logits[:, 2]
        by_hand.append(math.exp(float(torch.nn.functional.cross_entropy(logits, tokens[:, 3]))))
    assert temporal["perplexity"]["median"] == pytest.approx(sum(by_hand) / 2, rel=1e-3)
    assert 0 <= temporal["ood_accuracy"] <= 1 < temporal["ood_perplexity"]
    assert tasks.free(model, ROWS)["reliability"] == 1.0 == tasks.free(model, ROWS)["locality"]


@pytest.mark.parametrize("task", tasks.TASKS)
def test_the_published_files_load(task):
    rows = tasks.load_rows(data_file(f"{task}.jsonl"), 5, 3)
    assert len(rows) == 3 and all(row.prompt and row.target and row.unrelated for row in rows)
    assert all(row.elsewhere and not row.elsewhere.startswith(row.prompt) for row in rows) == (task == "temporal")
    assert all(row.original for row in rows) == (task == "counterfact")
    with pytest.raises(ValueError, match="asked for"):
        tasks.load_rows(data_file(f"{task}.jsonl"), 5, 10_000)
