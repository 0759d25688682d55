"""The update rules: their recipes, and steps that adapt themselves."""

from __future__ import annotations

import math

import pytest
import torch

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.editing.rules import BlockWrite, TokenWrite, adaptive_rate, make_write
from memoir_fast.editing.update_rule import RULES, settled
from tests.support.models import tiny_memoir


def test_a_rule_takes_its_own_recipe_whatever_rule_the_settings_began_with():
    config = MemoirConfig().updated(write="sgd")
    assert settled(config) == settled(MemoirConfig(write="sgd")) and settled(config).edit_lr == 3.0
    assert settled(config.updated(write="preconditioned", edit_lr=0.5)).edit_lr == 0.5
    assert set(RULES) == set(MemoirConfig.__dataclass_fields__["write"].metadata["choices"])
    with pytest.raises(ValueError, match="weight_decay must be < 1 / edit_lr"):
        tiny_memoir(weight_decay=0.5)


@pytest.mark.parametrize("loss", [1e-3, 0.3, 5.0, 25.0])
def test_an_adaptive_step_makes_for_its_aim(loss):
    """On the function it assumes, a logistic loss of one margin, it lands where it aims, whatever the units of the weights."""
    for unit in (1e-3, 1.0, 70.0):
        margin = -math.log(math.expm1(loss)) if loss < 20 else -loss
        gradient = -unit * -math.expm1(-loss)  # of log(1 + e^-m) for w, where m = unit * w
        rate = adaptive_rate(loss, 0.01, gradient**2)
        after = math.log1p(math.exp(-(margin - unit * rate * gradient)))
        assert after == pytest.approx(min(loss, 0.01), rel=1e-6)
    assert adaptive_rate(loss, 0.01, 0.0) == 0.0


def test_steps_adapt_unless_a_rate_is_asked_for(smollm2):
    """On the real model: every fact is learned, in fewer steps than at the fixed rate, alone and together with others."""
    facts = [("Who leads Norvane Robotics?", "Lena Ortiz"), ("When was Quillet founded?", "1997")]
    steps = {}
    for name, settings in (("adapting", {}), ("fixed", {"edit_lr": 6.0})):
        torch.manual_seed(0)
        model = MemoirModel(*smollm2, MemoirConfig(**settings))
        try:
            made = model.edit_many(facts) + model.edit_many([(p.lower(), t) for p, t in facts], batch_size=2)
            assert name == "fixed" or all(result.converged and result.loss <= 0.02 for result in made)
            assert (settled(model.config).edit_lr is None) is (name == "adapting")
            assert model.ask([p for p, _ in facts]) == [t for _, t in facts]
            steps[name] = sum(result.steps for result in made)
        finally:
            model.detach()
    assert steps["adapting"] < steps["fixed"]


def test_a_step_that_is_too_long_is_taken_back():
    """Along a wall: the assumed function is far from the real one, and the loss still ends below where it began."""
    features, config = torch.ones(1, 1), MemoirConfig()
    write, weight, losses = make_write(features, torch.zeros(1, 1), config, features), 0.0, []
    for _ in range(40):
        weight = float(write.contribution())
        losses.append((weight - 1e-3) ** 2 * 1e6)  # steep: the first step goes a thousand times too far
        write.step(torch.tensor([[2e6 * (weight - 1e-3)]]), [True], losses[-1:])
    assert (losses[-1] < 0.02 < losses[0] and max(losses) == losses[0]) or min(losses) < 0.02


def test_both_forms_adapt_alike():
    torch.manual_seed(1)
    features, before = torch.randn(12, 9), torch.randn(12, 5)
    writes = [form(features, before, MemoirConfig()) for form in (TokenWrite, BlockWrite)]
    for step, loss in enumerate((5.0, 2.0, 3.0, 2.5, 1.0, 0.2, 0.9, 0.1)):  # it falls, rises twice, falls, rises, falls
        gradient = torch.randn(12, 5, generator=torch.Generator().manual_seed(step))
        for write in writes:
            write.step(gradient, None, [loss])
        torch.testing.assert_close(writes[0].contribution(), writes[1].contribution(), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="needs each edit's loss"):
        writes[0].step(gradient)


def test_a_vanishing_gradient_makes_no_endless_step():
    features = torch.ones(1, 1)
    for size in (1e-30, 1e-20, 1e-12, 0.0):
        write = make_write(features, torch.zeros(1, 1), MemoirConfig(), features)
        for _ in range(3):
            write.step(torch.full((1, 1), size), [True], [3.0])
        assert abs(float(write.contribution())) <= 3 * 100 * 1.3**3
