"""The evaluation suite: its scores against counts by hand, its peers, and a run that is stopped and goes on."""

from __future__ import annotations

import json
import math
import sys

import pytest
import torch

from benchmarks import peers, quality, report, tasks
from benchmarks.grace import Codebook
from benchmarks.tasks import Row
from memoir_fast.evaluation import metrics
from tests.support.data import data_file
from tests.support.models import background_texts, tiny_memoir, tiny_model, word_tokenizer

ROWS = [
    Row("w100 w101 w102", "w150", "w101 w100 w102", "w20 w21 w22", "w30 w31", "w151", "w40 w41"),
    Row("w110 w111 w112", "w152", "w111 w110 w112", "w23 w24 w25", "w32", "w153", "w42"),
]


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
        tokens = torch.tensor([model.encoder.pair(*_pair(row)).tokens])
        with torch.no_grad():
            logits = model(input_ids=tokens, prompt_mask=torch.tensor([[True, True, True, False]])).logits[:, 2]
        by_hand.append(math.exp(float(torch.nn.functional.cross_entropy(logits, tokens[:, 3]))))
    assert temporal["perplexity"]["median"] == pytest.approx(sum(by_hand) / 2, rel=1e-3)
    assert 0 <= temporal["ood_accuracy"] <= 1 < temporal["ood_perplexity"]
    assert tasks.free(model, ROWS)["reliability"] == 1.0 == tasks.free(model, ROWS)["locality"]


def _pair(row):
    return ROWS[row].prompt, ROWS[row].target


def test_peers_learn_or_look_up(monkeypatch):
    plain = peers.Peer(tiny_model("llama"), word_tokenizer())
    base = tasks.base_answers(plain, ROWS)
    assert tasks.score("zsre", plain, ROWS, base)["locality"] == 1.0
    tuned = peers.fine_tuned(tiny_model("llama"), word_tokenizer(), "model.layers.1.mlp.down_proj")
    tuned.lr = 0.05
    tuned.edit(*_pair(0))
    assert tasks.score("zsre", tuned, ROWS[:1], base[:1])["reliability"] == 1.0
    adapted = peers.adapted(tiny_model("llama"), word_tokenizer(), "model.layers.1.mlp.down_proj")
    before = adapted.model.state_dict()
    frozen = {name: value.clone() for name, value in before.items() if "lora" not in name}
    adapted.edit(*_pair(0))
    assert all(torch.equal(adapted.model.state_dict()[name], value) for name, value in frozen.items())
    monkeypatch.setattr(peers, "MemoirConfig", lambda: tiny_memoir().config.updated(layer=1))
    context = peers.InContext(tiny_model("llama"), word_tokenizer(), background_texts())
    context.edit(*_pair(0))
    assert context.encoder.pair(*_pair(0)).tokens[:4] == word_tokenizer()("w100 w101 w102 w150")["input_ids"]
    assert len(context.encoder.pair("w30 w31 w32 w33", "w1").tokens) == 5  # nothing like it is stored


def test_replay_trains_near_facts_again_and_counts_them_once():
    model, plain = (tiny_memoir(steps=60, write="preconditioned") for _ in range(2))
    quality.replayed(model, [], ROWS[0], 2)
    plain.edit(*_pair(0))
    assert torch.equal(model.memory.V, plain.memory.V)
    result = quality.replayed(model, ROWS[:1], ROWS[1], 2)
    plain.edit(*_pair(1))
    assert (
        result.id == 1
        and len(model.memory) == 2
        and torch.allclose(model.memory.C, plain.memory.C, rtol=1e-4, atol=1e-5)
    )
    mine = model.memory.indices_of(0).long()
    assert not torch.equal(model.memory.V[mine], plain.memory.V[mine])
    assert metrics.token_accuracy(model, [_pair(0), _pair(1)]) == [1.0, 1.0]


def test_grace_reads_within_a_radius_and_shares_the_distance():
    path = "model.layers.1.mlp.down_proj"
    model = peers.Grace(tiny_model("llama"), word_tokenizer(), path, ["w1 w2 w3", "w4 w5 w6", "w7 w8"], steps=200)
    assert model.codebook.radius > 0
    base = tasks.base_answers(peers.Peer(tiny_model("llama"), word_tokenizer()), ROWS)
    model.codebook.radius = 1e-3
    for row in range(2):
        model.edit(*_pair(row))
    assert tasks.score("zsre", model, ROWS, base) | {"generalization": 0, "average": 0} == {
        "locality": 1.0, "reliability": 1.0, "generalization": 0, "average": 0}  # fmt: skip
    book = Codebook(torch.nn.Linear(2, 2), radius=1.0)
    at = [torch.tensor(key) for key in ([0.0, 0.0], [1.5, 0.0], [0.0, 1.0], [9.0, 9.0])]
    assert [book.add(key, target, 2) for key, target in zip(at, "aaba", strict=True)] == [0, 0, 1, 2]
    assert book.radii == [pytest.approx(0.5, abs=1e-4), 0.5, 1.0] and book.targets == ["a", "b", "a"]


def test_the_published_peer_reads_the_edit_of_its_prompt():
    like = tiny_memoir(write="sgd", threshold=0.7, steps=60)
    model = peers.Published(tiny_model("llama"), word_tokenizer(), like)
    base = tasks.base_answers(peers.Peer(tiny_model("llama"), word_tokenizer()), ROWS)
    for row in range(2):
        model.edit(*_pair(row))
        like.edit(*_pair(row))
    mine, theirs = (tasks.score("zsre", peer, ROWS, base) for peer in (like, model))
    assert theirs == mine and theirs["reliability"] == 1.0


def test_a_stopped_run_goes_on_and_is_reported(tmp_path, monkeypatch):
    tiny_model("llama").save_pretrained(tmp_path / "base"), word_tokenizer().save_pretrained(tmp_path / "base")
    lines = [{"prompt": f"w1{i}0 w1{i}1 w1{i}2", "target_new": f"w15{i}", "rephrase_prompt": f"w1{i}1 w1{i}0", "subject": "",
              "locality_prompt": "w20 w21", "locality_ground_truth": "w30"} for i in range(4)]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "background.jsonl").write_text(
        "\n".join(json.dumps({"prompt": prompt}) for prompt, _ in background_texts().records)
    )
    made = ["quality", "--model", str(tmp_path / "base"), "--edits", str(tmp_path / "rows.jsonl"), "--free", "--folder",
            str(tmp_path / "run"), "--background", str(tmp_path / "background.jsonl"), "--set", "layer=1", "--set", "top_k=24", "--thresholds", "1.0", "0.0"]  # fmt: skip
    monkeypatch.setattr(
        quality, "background_perplexity", lambda model: 1.0
    )  # it asks the shipped questions: real words
    monkeypatch.setattr(sys, "argv", [*made, "--count", "2", "--checkpoints", "1"])
    quality.main()
    first = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [found["edits"] for found in first["checkpoints"]] == [1, 2]
    monkeypatch.setattr(report, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", [*made, "--count", "4", "--json", str(tmp_path / "results" / "tiny.json")])
    quality.main()
    second = json.loads((tmp_path / "results" / "tiny.json").read_text())
    assert (
        second["losses"][:2] == first["losses"]
        and len(second["losses"]) == 4
        and second["checkpoints"][2]["edits"] == 4
    )
    strict, lax = second["sweep"]
    assert strict["routed_prompts"] == 1.0 == lax["routed_rephrasings"] and strict["reliability"] == lax["reliability"]
    assert second["checkpoints"][-1]["threshold"] not in (0.0, 1.0)  # the run's own stays
    plain = made[: made.index("--set")]
    monkeypatch.setattr(sys, "argv", [*plain, "--count", "4", "--again", "--set", "threshold=1.0"])
    quality.main()
    again = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [found["edits"] for found in again["checkpoints"]] == [1, 2, 4] and again["settings"]["threshold"] == 1.0
    assert again["losses"] == second["losses"] and again["checkpoints"][-1]["all"]["locality"] == strict["locality"]
    report.main()
    assert (
        "| tiny | 4 | all |" in (tmp_path / "quality.md").read_text()
        and (tmp_path / "quality.png").stat().st_size > 5000
    )


@pytest.mark.parametrize("task", tasks.TASKS)
def test_the_published_files_load(task):
    rows = tasks.load_rows(data_file(f"{task}.jsonl"), 5, 3)
    assert len(rows) == 3 and all(row.prompt and row.target and row.unrelated for row in rows)
    assert all(row.elsewhere and not row.elsewhere.startswith(row.prompt) for row in rows) == (task == "temporal")
    assert all(row.original for row in rows) == (task == "counterfact")
    with pytest.raises(ValueError, match="asked for"):
        tasks.load_rows(data_file(f"{task}.jsonl"), 5, 10_000)


def test_a_fact_given_again_is_scored_by_the_latest_target():
    rows = [Row("w100 w101 w102", "w150", "w101 w100"), Row("w110 w111 w112", "w151"), Row("w101 w100", "w152", "w103 w100 w101"),
            Row("w120 w121 w122", "w153"), Row("w120 w121 w122", "w153")]  # fmt: skip
    ((own, late),) = tasks.latest(
        rows
    )  # the third row asks the first one's rephrasing; the last one says the same again
    assert own == rows[0] and late.prompt == rows[0].prompt and late.target == "w152"
    model = tiny_memoir(steps=60)
    model.edit(rows[0].prompt, "w150")
    found = quality.repeated("zsre", model, rows)
    assert found["rows"] == 1 and found["own_reliability"] == 1.0 and found["latest_reliability"] == 0.0
    assert quality.repeated("zsre", model, rows[:2]) == {"rows": 0}


def test_causes_of_wrong_answers_add_up():
    rows = [
        Row("w100 w101 w102", "w150", "w101 w100 w102"),
        Row("w110 w111 w112", "w151", "w111 w110 w112"),
        Row("w120 w121 w122", "w153", "w100 w101 w102"),
    ]
    model = tiny_memoir(steps=60)
    for row in rows[:2]:
        model.edit(row.prompt, row.target)
    model.edit(rows[2].prompt, "w160")  # its own edit is read and answers something else than the row says
    found = quality.causes(model, rows)
    assert found["prompt"] == {"conflict": 0.0, "retrieval": 0.0, "own": pytest.approx(1 / 3), "reads_its_own": 1.0}
    assert found["rephrase"]["retrieval"] >= 1 / 3 - 1e-9  # the third row's rephrasing is the first row's prompt
    missed = 1 - tasks.score("zsre", model, rows, [])["generalization"]
    assert sum(found["rephrase"][key] for key in ("conflict", "retrieval", "own")) == pytest.approx(missed)


def test_smaller_forms_of_the_record_of_reads():
    A = torch.randn(60, 40, generator=torch.Generator().manual_seed(0))
    C = A.T @ A
    assert torch.allclose(quality.sketched(C, "bfloat16"), C, rtol=1e-2)
    assert torch.allclose(quality.sketched(C, "rank=40"), C, rtol=1e-3, atol=1e-3)
    assert torch.allclose(quality.sketched(C, "rank=0"), torch.diag(C.diagonal()))
    assert torch.allclose(quality.sketched(C, "rank=5").diagonal(), C.diagonal(), rtol=1e-4)
