"""The update rules: their recipes, and steps that adapt themselves."""

from __future__ import annotations

import math

import pytest
import torch

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.editing.rules import PATIENCE, BlockWrite, TokenWrite, adaptive_rate, make_write, preconditioned
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


@pytest.mark.parametrize("form", [TokenWrite, BlockWrite])
def test_an_edit_that_starts_once_more_leaves_nothing_of_its_first_steps(form):
    """After it both forms equal a dense block that made the later steps alone, along the other directions."""
    torch.manual_seed(2)
    features, before = torch.randn(12, 9), torch.randn(12, 5)
    first, later = features + torch.randn(12, 9) / 9, features + torch.randn(12, 9) / 9
    asked: list[int] = []
    write = form(features, before, MemoirConfig(), first.clone(), again=lambda number: asked.append(number) or later)
    dense = torch.zeros(9, 5)
    for step in range(PATIENCE + 4):
        gradient = torch.randn(12, 5, generator=torch.Generator().manual_seed(step)) / 9
        loss = 4.0 - step % (PATIENCE + 1) / 10
        write.step(gradient, None, [loss])
        if step == PATIENCE:
            torch.testing.assert_close(write.contribution(), before)
        if step > PATIENCE:
            squared = float((gradient * (features @ later.T @ gradient)).sum())
            dense -= adaptive_rate(loss, 0.01, squared) * later.T @ gradient
    torch.testing.assert_close(write.contribution(), before + features @ dense, rtol=1e-4, atol=1e-4)
    assert asked == [0] and float(dense.abs().max()) > 0


def test_edits_made_together_start_once_more_each_on_its_own():
    """Beside one that ends early, and with columns of its own."""
    torch.manual_seed(3)
    masks, parts = [torch.arange(0, 9), torch.arange(5, 14)], [slice(0, 6), slice(6, 11)]
    features = torch.zeros(11, 14)
    for mask, part in zip(masks, parts, strict=True):
        features[part, mask] = torch.randn(part.stop - part.start, 9)
    later = torch.zeros(5, 14)
    later[:, masks[1]] = torch.randn(5, 9)
    asked: list[int] = []
    write = TokenWrite(
        features, torch.zeros(11, 4), MemoirConfig(), features.clone(), parts, lambda n: asked.append(n) or later
    )
    for step in range(PATIENCE + 1):
        gradient = torch.randn(11, 4, generator=torch.Generator().manual_seed(step)) / 9
        write.step(gradient, [step < 3, True], [3.0 - step / 10] * 2)
    assert asked == [1] and not write.G[parts[1]].any() and write.G[parts[0]].any()
    torch.testing.assert_close(write.moves[parts[1]], later)
    torch.testing.assert_close(write.contribution(), features @ (features[parts[0]].T @ write.G[parts[0]]))


def test_an_edit_that_is_slow_starts_once_more_and_is_learned(smollm2, monkeypatch):
    """Digits and letters that the model finds unlikely pull against each other where only earlier edits are counted: the code of a door."""
    facts = [
        ("What is the door code of the archive room at Wexley Library?", "7402"),
        ("What is the phone number of the Cray Street clinic?", "0161 496 0352"),
        ("Which commit is deployed on the Thistle web tier?", "9f4c1e7"),
    ]
    made = {}
    for name, patience in (("again", PATIENCE), ("never", 1000)):
        monkeypatch.setattr("memoir_fast.editing.rules.PATIENCE", patience)
        with MemoirModel(*smollm2, MemoirConfig()) as model:
            made[name] = [model.edit(*fact) for fact in facts]
            if name == "again":
                assert model.ask([prompt for prompt, _ in facts]) == [target for _, target in facts]
    assert all(result.converged for result in made["again"])
    slow = [number for number, result in enumerate(made["never"]) if result.steps > PATIENCE]
    assert slow and all(made["again"][number].loss != made["never"][number].loss for number in slow)


def test_what_an_edit_reads_itself_makes_its_tokens_independent():
    """With it in C, tokens that share features pull against each other less: `A U^T` comes nearer to a diagonal."""
    torch.manual_seed(4)
    features = torch.randn(6, 40) + 2 * torch.randn(40)
    C = torch.zeros(40, 40)
    shared = []
    for counted in (C, C + features.T @ features):
        gram = features @ preconditioned(features, counted, 1.0).T
        shared.append(float((gram - gram.diag().diag()).abs().mean() / gram.diag().mean()))
    assert shared[1] < 0.6 * shared[0]
