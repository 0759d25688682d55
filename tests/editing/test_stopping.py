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
    with pytest.raises(ValueError, match="stop_token_loss"):
        MemoirConfig(stop_token_loss=-1)
