"""The peers learn, look up or read as they should."""

from __future__ import annotations

import pytest
import torch

from benchmarks.quality import tasks
from benchmarks.rivals import peers
from benchmarks.rivals.grace import Codebook
from tests.benchmarks.support import ROWS, pair
from tests.support.models import background_texts, tiny_memoir, tiny_model, word_tokenizer


def test_peers_learn_or_look_up(monkeypatch):
    plain = peers.Peer(tiny_model("llama"), word_tokenizer())
    base = tasks.base_answers(plain, ROWS)
    assert tasks.score("zsre", plain, ROWS, base)["locality"] == 1.0
    tuned = peers.fine_tuned(tiny_model("llama"), word_tokenizer(), "model.layers.1.mlp.down_proj")
    tuned.lr = 0.05
    tuned.edit(*pair(0))
    assert tasks.score("zsre", tuned, ROWS[:1], base[:1])["reliability"] == 1.0
    adapted = peers.adapted(tiny_model("llama"), word_tokenizer(), "model.layers.1.mlp.down_proj")
    before = adapted.model.state_dict()
    frozen = {name: value.clone() for name, value in before.items() if "lora" not in name}
    adapted.edit(*pair(0))
    assert all(torch.equal(adapted.model.state_dict()[name], value) for name, value in frozen.items())
    monkeypatch.setattr(peers, "MemoirConfig", lambda **settings: tiny_memoir().config.updated(layer=1))
    context = peers.InContext(tiny_model("llama"), word_tokenizer(), background_texts())
    context.edit(*pair(0))
    assert context.encoder.pair(*pair(0)).tokens[:4] == word_tokenizer()("w100 w101 w102 w150")["input_ids"]
    assert len(context.encoder.pair("w30 w31 w32 w33", "w1").tokens) == 5  # nothing like it is stored


def test_grace_reads_within_a_radius_and_shares_the_distance():
    path = "model.layers.1.mlp.down_proj"
    model = peers.Grace(tiny_model("llama"), word_tokenizer(), path, ["w1 w2 w3", "w4 w5 w6", "w7 w8"], steps=200)
    assert model.codebook.radius > 0
    base = tasks.base_answers(peers.Peer(tiny_model("llama"), word_tokenizer()), ROWS)
    model.codebook.radius = 1e-3
    for row in range(2):
        model.edit(*pair(row))
    assert tasks.score("zsre", model, ROWS, base) | {"generalization": 0, "average": 0} == {
        "locality": 1.0, "reliability": 1.0, "generalization": 0, "average": 0}  # fmt: skip
    book = Codebook(torch.nn.Linear(2, 2), radius=1.0)
    at = [torch.tensor(key) for key in ([0.0, 0.0], [1.5, 0.0], [0.0, 1.0], [9.0, 9.0])]
    assert [book.add(key, target, 2) for key, target in zip(at, "aaba", strict=True)] == [0, 0, 1, 2]
    assert book.radii == [pytest.approx(0.5, abs=1e-4), 0.5, 1.0] and book.targets == ["a", "b", "a"]


def test_the_published_peer_reads_the_edit_of_its_prompt():
    like = tiny_memoir(recipe="published", edit_lr=3.0, threshold=0.7, steps=60)
    model = peers.Published(tiny_model("llama"), word_tokenizer(), like)
    base = tasks.base_answers(peers.Peer(tiny_model("llama"), word_tokenizer()), ROWS)
    for row in range(2):
        model.edit(*pair(row))
        like.edit(*pair(row))
    mine, theirs = (tasks.score("zsre", peer, ROWS, base) for peer in (like, model))
    assert theirs == mine and theirs["reliability"] == 1.0
