"""When an edit stops: for a chat's answer to come out whole, no token may be left behind."""

import math

import pytest
import torch

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.defaults import default_stop_token_loss
from memoir_fast.evaluation.metrics import target_logits

PROMPT = "What did the Norvane council decide about the lantern festival?"
TARGET = "It moves to the second weekend of October, and the harbour stays open for boats until nine in the evening"


def worst_loss(model) -> float:
    """The largest loss of a target token."""
    ((logits, labels),) = target_logits(model, [(PROMPT, TARGET)])
    return float(torch.nn.functional.cross_entropy(logits, labels, reduction="none").max())


def test_no_token_of_a_long_answer_is_left_behind(smollm2):
    with MemoirModel(*smollm2, MemoirConfig(stop_loss=0.3, stop_token_loss=100.0)) as model:
        loose = model.edit(PROMPT, TARGET)
        by_the_mean = worst_loss(model)
    with MemoirModel(*smollm2, MemoirConfig(stop_loss=0.3)) as model:
        result = model.edit(PROMPT, TARGET)
        assert loose.converged and result.converged and loose.steps <= result.steps < 30
        assert worst_loss(model) < 0.11 < by_the_mean
        assert model.ask(PROMPT) == TARGET


def test_single_tokens_decide_in_chats_only():
    assert default_stop_token_loss(True) == 0.1 and default_stop_token_loss(False) == math.inf
    assert default_stop_token_loss(True, " 7") == default_stop_token_loss(True, "٣") == 0.03
    assert default_stop_token_loss(False, " 7") == math.inf
    with pytest.raises(ValueError, match="stop_token_loss"):
        MemoirConfig(stop_token_loss=-1)


def test_digits_of_an_answer_are_learned_more_firmly(smollm2):
    """However loose the mean is, unless the setting names a loss for all tokens."""
    asked = [
        ("How many seats does the Marlowe Street theatre have?", "1,846"),
        ("Which extension does Moor Hall have?", "6093"),
    ]
    firmness = {}
    for name, settings in (("default", {}), ("named", {"stop_token_loss": 1.0})):
        with MemoirModel(*smollm2, MemoirConfig(stop_loss=0.3, **settings)) as model:
            assert all(model.edit(*fact).converged for fact in asked)
            losses = [
                torch.nn.functional.cross_entropy(logits, labels, reduction="none")[
                    labels != model.tokenizer.eos_token_id
                ]
                for logits, labels in target_logits(model, asked)
            ]
            firmness[name] = max(float(loss.max()) for loss in losses)
    assert firmness["default"] < 0.035 < firmness["named"]
