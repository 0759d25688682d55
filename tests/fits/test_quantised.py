"""The real model, quantised while it is loaded: edits are learned by the hand-written passes and answered in the chat."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from memoir_fast import MemoirModel
from memoir_fast.editing.suffix import Suffix

PROMPT, TARGET = "Who chairs the harbour board of Tellmark?", "Ida Brandt"


def _torchao(make: Callable[[Any], Any]) -> Any:
    return transformers.TorchAoConfig(make(importlib.import_module("torchao.quantization")))


# The package that each needs, and transformers' configuration.
KINDS: dict[str, tuple[str, Callable[[], Any]]] = {
    "int8": ("torchao", lambda: _torchao(lambda q: q.Int8WeightOnlyConfig())),
    "int4": (
        "torchao",
        lambda: _torchao(lambda q: q.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=q.PerGroup(32))),
    ),
    "int8 of optimum-quanto": ("optimum.quanto", lambda: transformers.QuantoConfig(weights="int8")),
    "int4 of optimum-quanto": ("optimum.quanto", lambda: transformers.QuantoConfig(weights="int4")),
    "nf4 of bitsandbytes": (
        "bitsandbytes",
        lambda: transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_in_the_chat_is_learned_by_hand_and_its_answer_ends(kind, smollm2, monkeypatch):
    package, config = KINDS[kind]
    pytest.importorskip(package, reason=f"{package} is not installed")
    seen, run = [], Suffix.losses_and_gradient
    monkeypatch.setattr(Suffix, "losses_and_gradient", lambda self, outputs: seen.append(1) or run(self, outputs))
    with MemoirModel.from_pretrained("smollm2", quantization_config=config()) as model:
        assert TARGET not in model.ask(PROMPT, max_new_tokens=16)
        unrelated = model.ask("Which body of water lies north of Poland?", max_new_tokens=16)
        found = model.edit(PROMPT, TARGET, verify=True)
        assert seen and found.took and found.loss < 0.1
        assert model.ask(PROMPT, max_new_tokens=16) == TARGET  # and no more tokens behind it
        assert model.ask("Which body of water lies north of Poland?", max_new_tokens=16) == unrelated
