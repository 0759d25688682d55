"""The path of any architecture: its losses and gradient are autograd's, and it never holds the logits of all targets at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from memoir_fast.editing import head, replay
from memoir_fast.editing.layout import lay_out
from memoir_fast.editing.replay import Replay, halved_copies
from memoir_fast.editing.suffix import Suffix
from memoir_fast.text.encoder import Sequence
from tests.support.models import FAMILIES, attached, tiny_memoir
from tests.support.wide import Largest, wide_model

PAIRS = [("w100 w101 w102 w103", "w150 w151"), ("w100", "w152"), ("w104 w105 w101 w100 w109 w110", "w153 w154 w155")]


def by_autograd(model, layout, outputs):
    """The whole model with `outputs` in the projection's place, and autograd from the logits of all positions."""
    tokens, leaf = layout.tokens[layout.acting], outputs.detach().clone().requires_grad_()

    def replaced(module, args, out):
        return out.reshape(-1, out.shape[-1]).index_copy(0, tokens, leaf.to(out.dtype)).view(out.shape)

    handle = model.model.get_submodule(model.target.path).register_forward_hook(replaced)
    with model.disabled():
        logits = model.model(**layout.inputs).logits
    handle.remove()
    logits = logits.reshape(-1, logits.shape[-1])[layout.targets].float()
    losses = nn.functional.cross_entropy(logits, layout.labels, reduction="none") * layout.weights
    return losses.detach(), torch.autograd.grad(losses.sum(), leaf)[0]


def outputs_of(ours, layout):
    base = ours.outputs.reshape(-1, ours.outputs.shape[-1])[layout.tokens[layout.acting]].float()
    return base + torch.randn(base.shape, generator=torch.Generator().manual_seed(0))


# All six targets at once, two of them (the vocabulary has 200 tokens), one.
@pytest.mark.parametrize("limit", [1 << 23, 400, 1])
@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradient_are_autograds(family, layer, limit, monkeypatch):
    monkeypatch.setattr(replay, "_LOGITS", limit)
    model = tiny_memoir(family, layer=layer)
    layout = lay_out([[model.encoder.pair(*pair)] for pair in PAIRS], False, "cpu")
    ours = Replay(model.model, model.router, model.target, layout)
    for _ in range(2):
        outputs = outputs_of(ours, layout)
        losses, gradient = ours.losses_and_gradient(outputs)
        wanted_losses, wanted = by_autograd(model, layout, outputs)
        assert torch.allclose(losses, wanted_losses, rtol=1e-4)
        assert torch.allclose(gradient, wanted, rtol=1e-3, atol=1e-6 + 1e-5 * float(wanted.abs().max()))


def test_logits_that_the_model_changes_are_changed_in_blocks_too(monkeypatch):
    """Gemma 2 caps them, Granite divides them: a head alone would give other losses."""
    monkeypatch.setattr(replay, "_LOGITS", 400)
    model = tiny_memoir("gemma2")
    layout = lay_out([[model.encoder.pair(*pair)] for pair in PAIRS], False, "cpu")
    ours = Replay(model.model, model.router, model.target, layout)
    outputs = 20 * outputs_of(ours, layout)
    capped = ours.losses_and_gradient(outputs)
    model.model.config.final_logit_softcapping = 0.02
    found, wanted = ours.losses_and_gradient(outputs), by_autograd(model, layout, outputs)
    assert not torch.allclose(capped[0], found[0], rtol=1e-3)
    assert torch.allclose(found[0], wanted[0], rtol=1e-4)
    assert torch.allclose(found[1], wanted[1], rtol=1e-3, atol=1e-6 * float(wanted[1].abs().max()))


@pytest.mark.parametrize("halves", [False, True])
def test_blocks_change_nothing(halves, monkeypatch):
    model = tiny_memoir("gemma3")
    layout = lay_out([[model.encoder.pair(*pair)] for pair in PAIRS], False, "cpu")
    halved = halved_copies(model.model, model.target) if halves else None
    ours = Replay(model.model, model.router, model.target, layout, halved)
    outputs = outputs_of(ours, layout)
    whole = ours.losses_and_gradient(outputs)
    monkeypatch.setattr(replay, "_LOGITS", 400)
    parts = ours.losses_and_gradient(outputs)
    tolerance = 2e-2 if halves else 1e-5  # a sum of bfloat16 gradients is rounded in another order
    for found, wanted in zip(parts, whole, strict=True):
        assert torch.allclose(found, wanted, rtol=tolerance, atol=tolerance * float(wanted.abs().max()))


def test_very_unlikely_tokens_make_no_denormal_numbers():
    logits = torch.tensor([[0.0, 50.0, -300.0, 3.0]], requires_grad=True)
    (loss,) = replay._CrossEntropy.apply(logits, torch.tensor([1]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(gradient[0, [0, 2, 3]].abs().min()) > 1e-22
    assert torch.allclose(gradient, (logits.softmax(-1) - torch.tensor([[0.0, 1.0, 0.0, 0.0]])).detach(), atol=1e-12)


def passage(vocabulary, targets):
    """An edit with a long target, in tokens from all over a vocabulary."""
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, vocabulary, (targets + 8,), generator=draw).tolist()
    return Sequence(tokens, 8, (0, 8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("family", "vocabulary"), [("gemma3_text", 262_144), ("llama", 128_256)])
def test_the_logits_of_all_targets_are_never_held_at_once(family, vocabulary, dtype):
    targets = 300
    model = attached(wide_model(family, vocabulary, dtype))
    layout = lay_out([[passage(vocabulary, targets)]], False, "cpu")
    kinds = [Replay] if family == "gemma3_text" else [Replay, Suffix]
    found = []
    for kind in kinds:
        ours = kind(model.model, model.router, model.target, layout)
        outputs = outputs_of(ours, layout)
        with Largest(model.model) as largest:
            found.append(kind(model.model, model.router, model.target, layout).losses_and_gradient(outputs))
        most = 4 * (replay._LOGITS if kind is Replay else head._LOGITS)
        assert 0.3 * most < largest.bytes <= most, largest.bytes
        assert most < 4 * targets * vocabulary / 2
    if dtype == torch.float32:
        whole = by_autograd(model, layout, outputs)
        for losses, gradient in found:
            assert torch.allclose(losses, whole[0], rtol=1e-4, atol=1e-6)
            assert torch.allclose(gradient, whole[1], rtol=1e-3, atol=1e-5 * float(whole[1].abs().max()))
