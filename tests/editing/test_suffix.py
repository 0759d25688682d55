"""The hand-written suffix against the model's own layers and autograd."""

from __future__ import annotations

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from torch import nn
from transformers import AutoModelForCausalLM

from memoir_fast.editing import head, parts, suffix, weights
from memoir_fast.editing.layout import lay_out
from memoir_fast.editing.replay import Replay, halved_copies
from memoir_fast.editing.suffix import Suffix, supports
from tests.support.models import attached, tiny_memoir, tiny_model
from tests.support.wide import Largest, wide_model

PAIRS = [("w100 w101 w102 w103", "w150 w151"), ("w100", "w152"), ("w104 w105 w101 w100 w109 w110", "w153 w154 w155")]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize("acts", ["all", "answer"])
def test_losses_and_gradient_are_those_of_the_model(family, layer, packed, acts):
    model = tiny_memoir(family, layer=layer)
    if family == "mistral":
        model.model.config.sliding_window = None
    with torch.no_grad():
        for module in model.model.modules():  # biases and norms that matter
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.normal_(std=0.3)
            elif "RMSNorm" in type(module).__name__:
                module.weight.uniform_(0.5, 1.5)
    assert supports(model.model, model.target)
    layout = lay_out([[model.encoder.pair(*pair)] for pair in PAIRS], packed, "cpu", acts=acts)
    ours = Suffix(model.model, model.router, model.target, layout)
    theirs = Replay(model.model, model.router, model.target, layout)
    assert torch.equal(ours.activations, theirs.activations) and torch.equal(ours.outputs, theirs.outputs)
    base = ours.outputs.reshape(-1, ours.outputs.shape[-1])[layout.tokens[layout.acting]]
    assert (len(base) < len(layout.tokens)) == (acts == "answer")
    for seed in range(2):
        outputs = base + torch.randn(base.shape, generator=torch.Generator().manual_seed(seed))
        loss, gradient = ours.losses_and_gradient(outputs)
        wanted_loss, wanted = theirs.losses_and_gradient(outputs)
        assert torch.allclose(loss, wanted_loss, rtol=1e-5)
        assert torch.allclose(gradient, wanted, rtol=1e-4, atol=1e-6 + 1e-5 * float(wanted.abs().max()))


def _suffix(model, layout, **kwargs):
    return Suffix(model.model, model.router, model.target, layout, **kwargs)


def test_targets_in_groups_give_the_same_values(monkeypatch):
    model = tiny_memoir()
    layout = lay_out([[model.encoder.pair(*pair)] for pair in PAIRS], True, "cpu")
    whole = _suffix(model, layout)
    monkeypatch.setattr(head, "_TARGETS", 4)  # of 6
    grouped = _suffix(model, layout)
    assert [len(one.labels) for one in grouped._heads] == [4, 2]
    base = whole.outputs.reshape(-1, whole.outputs.shape[-1])[layout.tokens]
    for wanted, found in zip(whole.losses_and_gradient(base), grouped.losses_and_gradient(base), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("targets", [256, 4])
def test_sparse_softmax_stays_near_the_full_one(monkeypatch, targets):
    monkeypatch.setattr(head, "_TARGETS", targets)
    monkeypatch.setattr(head, "_CANDIDATES", 60)  # of 200 tokens
    model = tiny_memoir()
    layout = lay_out([[model.encoder.pair(*pair)] for pair in PAIRS], True, "cpu")
    full, sparse = _suffix(model, layout), _suffix(model, layout, sparse=True)
    base = full.outputs.reshape(-1, full.outputs.shape[-1])[layout.tokens]
    for step in range(10):
        outputs = base + 0.01 * step * torch.randn(base.shape, generator=torch.Generator().manual_seed(step))
        loss, gradient = sparse.losses_and_gradient(outputs)
        wanted_loss, wanted = full.losses_and_gradient(outputs)
        if step % 8 == 0:
            assert torch.equal(loss, wanted_loss) and torch.equal(gradient, wanted)
        assert torch.allclose(loss, wanted_loss, rtol=5e-2)
        assert torch.nn.functional.cosine_similarity(gradient.flatten(), wanted.flatten(), 0) > 0.97


def test_bfloat16_copies_stay_near(monkeypatch):
    model = tiny_memoir("qwen3")
    layout = lay_out([[model.encoder.pair(*pair)] for pair in PAIRS], False, "cpu")
    halved = halved_copies(model.model, model.target)
    exact, half = _suffix(model, layout), _suffix(model, layout, halved=halved)
    base = exact.outputs.reshape(-1, exact.outputs.shape[-1])[layout.tokens]
    loss, gradient = half.losses_and_gradient(base)
    wanted_loss, wanted = exact.losses_and_gradient(base)
    assert torch.allclose(loss, wanted_loss, rtol=5e-2) and not torch.equal(loss, wanted_loss)
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), wanted.flatten(), 0) > 0.9


@pytest.mark.parametrize("units", [True, False])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_model_in_bfloat16_has_the_values_of_its_weights_in_float32(family, units, monkeypatch):
    """With bfloat16 products, and without units for them, where the weights are turned into float32 by blocks: as near as those allow."""
    monkeypatch.setattr(weights, "has_bfloat16", lambda device: units)
    monkeypatch.setattr(weights, "_NUMBERS", 7 * 32)  # blocks of 7 rows and less, the last one shorter
    monkeypatch.setattr(head, "_BLOCK", 48)
    half = tiny_memoir(family)
    half.model.bfloat16()
    exact = tiny_memoir(family)
    exact.model.load_state_dict(half.model.state_dict())  # the same rounded weights
    with torch.no_grad():
        for model in (half, exact):
            for module in model.model.modules():
                if isinstance(module, nn.Linear) and module.bias is not None:
                    module.bias.copy_(torch.arange(len(module.bias)) / 64)
    layout = lay_out([[half.encoder.pair(*pair)] for pair in PAIRS], True, "cpu", acts="answer")
    ours, theirs = _suffix(half, layout), Replay(exact.model, exact.router, exact.target, layout)
    # From the same states: those that the layers below gave are rounded in one model and not in the other.
    ours._residual = _suffix(exact, layout)._residual
    base = theirs.outputs.reshape(-1, theirs.outputs.shape[-1])[layout.tokens[layout.acting]]
    outputs = base + torch.randn(base.shape, generator=torch.Generator().manual_seed(0))
    loss, gradient = ours.losses_and_gradient(outputs)
    wanted_loss, wanted = theirs.losses_and_gradient(outputs)
    assert torch.allclose(loss, wanted_loss, rtol=3e-2)
    assert nn.functional.cosine_similarity(gradient.flatten(), wanted.flatten(), 0) > 0.995


def test_weights_in_blocks_are_the_whole_products(monkeypatch):
    """Exactly those of float32 arithmetic on the rounded weights, forward, backward and added to another gradient."""
    monkeypatch.setattr(weights, "has_bfloat16", lambda device: False)
    monkeypatch.setattr(weights, "_NUMBERS", 7 * 32)
    half, draw = nn.Linear(32, 50, dtype=torch.bfloat16), torch.Generator().manual_seed(0)
    x, g, onto = (torch.randn(9, size, generator=draw) for size in (32, 50, 32))
    weight, bias = half.weight.detach().float(), half.bias.detach().float()
    with torch.no_grad():
        assert torch.allclose(parts.affine(half, x), x @ weight.T + bias, rtol=1e-5, atol=1e-5)
        assert torch.allclose(parts.back(g, half), g @ weight, rtol=1e-5, atol=1e-5)
        wanted = onto + g @ weight
        assert torch.allclose(parts.back(g, half, onto), wanted, rtol=1e-5, atol=1e-5)


def test_a_large_weight_is_never_float32_as_a_whole(monkeypatch):
    monkeypatch.setattr(weights, "has_bfloat16", lambda device: False)
    model = wide_model("llama", 128_256, torch.bfloat16)
    large = nn.Linear(4096, 4096, bias=False, dtype=torch.bfloat16)
    with torch.no_grad(), Largest(large) as largest:
        parts.affine(large, torch.ones(3, 4096)), parts.back(torch.ones(3, 4096), large)
    assert largest.bytes == 4 * weights._NUMBERS < 4 * large.weight.numel()
    weight = model.get_output_embeddings().weight.detach()
    made = head.Head(weight, torch.tensor([5]), torch.ones(1), False, True, torch.empty(len(weight)))
    with Largest(model) as largest:
        made.losses_and_gradient(torch.ones(1, 32))
    assert largest.bytes <= 4 * max(len(weight), head._BLOCK * 32)


def test_other_models_go_through_their_own_code():
    assert not supports(*_parts(tiny_memoir("gemma3"))) and not supports(*_parts(tiny_memoir("gpt2")))
    assert not supports(*_parts(tiny_memoir("mistral")))  # its attention has a window
    model = tiny_memoir("llama")
    assert supports(*_parts(model))
    above = model.model.model.layers[2]
    handle = above.mlp.register_forward_hook(lambda *args: None)
    assert not supports(*_parts(model))
    handle.remove()
    add_hook_to_module(model.model.lm_head, ModelHook())  # as accelerate's device_map does
    assert not supports(*_parts(model))
    remove_hook_from_module(model.model.lm_head)
    assert supports(*_parts(model))
    above.mlp.up_proj = torch.nn.Sequential(above.mlp.up_proj)
    assert not supports(*_parts(model))


def _on_disk(folder, *parts):
    """The tiny model from a folder, with some of its parts left on the disk."""
    tiny_model("llama").save_pretrained(folder)
    names = [
        "model.embed_tokens",
        *(f"model.layers.{number}" for number in range(4)),
        "model.norm",
        "model.rotary_emb",
        "lm_head",
    ]
    places = {name: "disk" if name in parts else "cpu" for name in names}
    return AutoModelForCausalLM.from_pretrained(folder, device_map=places, offload_folder=folder / "offloaded").eval()


def test_layers_below_may_stay_on_the_disk(tmp_path):
    """A model larger than memory: what lies above the projection is run by hand, and of the rest nothing is kept."""
    model = attached(_on_disk(tmp_path, "model.embed_tokens", "model.layers.0", "model.layers.1"))
    whole = attached(tiny_model("llama"))
    assert supports(*_parts(model))
    found, wanted = (m.edit("w100 w101 w102", "w150 w151") for m in (model, whole))
    assert found.loss == wanted.loss and torch.equal(model.memory.V, whole.memory.V)
    below = [p for layer in model.model.model.layers[:2] for p in layer.parameters()]
    assert below and all(p.is_meta for p in below)


def test_layers_above_that_are_elsewhere_are_not_run_by_hand(tmp_path, monkeypatch):
    assert not supports(*_parts(attached(_on_disk(tmp_path, "model.layers.3"))))
    model = tiny_memoir()
    assert supports(*_parts(model))
    monkeypatch.setattr(
        suffix, "device_of", lambda module: torch.device("cuda:1")
    )  # the projection on another GPU than they are
    assert not supports(*_parts(model))


def _parts(model):
    return model.model, model.target
