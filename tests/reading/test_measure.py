"""What the word rule measures of a model's next tokens, at vocabularies of large models."""

from __future__ import annotations

import torch

from memoir_fast.memory.residual import ResidualMemory
from memoir_fast.reading import measure
from memoir_fast.reading.router import Router
from memoir_fast.text.encoder import Sequence
from tests.support.wide import Largest, wide_model

VOCABULARY = 262_144


def texts():
    draw = torch.Generator().manual_seed(0)
    lengths = [5, 160, 9, 30, 12, 40, 25, 8]
    return [Sequence(torch.randint(0, VOCABULARY, (n,), generator=draw).tolist(), n, (0, n)) for n in lengths]


def test_the_mean_of_the_next_tokens_needs_few_logits_at_a_time():
    model, router = wide_model("llama", VOCABULARY), Router(ResidualMemory(96, 32, 24))
    with Largest(model) as largest:
        found = measure._next_tokens(model, router, texts(), 16)
    assert largest.bytes <= 4 * 160 * VOCABULARY  # the longest text's, which is above the limit by itself
    total = sum(
        model(input_ids=torch.tensor([one.tokens])).logits[0].detach().double().softmax(-1).sum(0) for one in texts()
    )
    assert torch.allclose(found, (total / sum(len(one.tokens) for one in texts()) + 1e-9).log().float(), atol=1e-4)


def test_batches_keep_to_the_room_for_logits(monkeypatch):
    monkeypatch.setattr(measure, "_LOGITS", 100 * 50)
    found = list(measure._batches(texts(), 3, 50))
    assert [[len(one.tokens) for one in some] for some in found] == [[5, 8, 9], [12, 25, 30], [40], [160]]
    assert sum(len(some) for some in found) == len(texts())
