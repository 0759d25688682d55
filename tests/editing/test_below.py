"""What all chats begin with is run once: the same states as without that."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from memoir_fast.editing.below import Below
from memoir_fast.editing.layout import lay_out
from memoir_fast.reading.probe import run_to_projection
from memoir_fast.text.encoder import Sequence
from tests.support.models import attached, tiny_memoir
from tests.support.quantised import quantised_model

BEGIN = [7, 9, 11, 13, 15, 17, 19, 21, 23, 25]


def sequences(begin=BEGIN):
    rest = [[31, 32, 33, 40, 41, 50], [31, 60, 40, 41, 51, 52], [34, 35, 36, 37, 40, 41, 50, 53]]
    return [Sequence([*begin, *part], len(begin) + 3, (len(begin), len(begin) + 3)) for part in rest]


def below_of(model):
    """A `Below`, and the shapes of what it lets run."""
    below, shapes = Below(model.model, model.router, model.target), []
    run = below._run

    def counted(inputs):
        shapes.append(tuple(inputs["input_ids"].shape))
        return run(inputs)

    below._run = counted
    return below, shapes


def assert_right(below, model, layout):
    found = below.states(layout)
    activations, outputs = run_to_projection(model.model, model.router, layout.inputs)
    for own, wanted in ((found.activations, activations), (found.outputs, outputs)):
        wanted = wanted.reshape(-1, wanted.shape[-1])[layout.tokens]
        assert torch.allclose(own[layout.tokens], wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    return found


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("layer", [0, 2])
def test_states_are_those_of_one_pass(family, layer, packed):
    model = tiny_memoir(family, layer=layer)
    if family == "mistral":
        model.model.config.sliding_window = None
    layout = lay_out([sequences()[:2], sequences()[1:]], packed, "cpu")
    below, shapes = below_of(model)
    first = assert_right(below, model, layout)
    assert shapes == [(1, len(BEGIN)), (4, 7)]
    again = below.states(layout)
    assert shapes[2:] == [(4, 7)]  # the beginning is kept
    assert all(
        torch.equal(one[layout.tokens], two[layout.tokens])
        for one, two in zip(first.parts(), again.parts(), strict=True)
    )


def test_a_beginning_that_is_not_shared_or_short_costs_no_second_pass():
    model = tiny_memoir()
    for wanted in (sequences(BEGIN[:7]), [*sequences(), *sequences([8, *BEGIN[1:]])]):
        below, shapes = below_of(model)
        assert_right(below, model, lay_out([wanted], True, "cpu"))
        assert len(shapes) == 1


def test_another_beginning_is_run_anew():
    model = tiny_memoir()
    below, shapes = below_of(model)
    assert_right(below, model, lay_out([sequences()], True, "cpu"))
    assert_right(below, model, lay_out([sequences([*BEGIN[:-1], 90])], True, "cpu"))
    assert [shape for shape in shapes if shape[0] == 1] == [(1, len(BEGIN))] * 2


def _changed_in_place(model):
    with torch.no_grad():
        model.model.model.layers[0].mlp.up_proj.weight.mul_(1.5)


def _loaded(model):
    model.model.load_state_dict({name: value * 1.1 for name, value in model.model.state_dict().items()})


def _replaced(model):
    layer = model.model.model.layers[0].mlp
    layer.up_proj.weight = nn.Parameter(layer.up_proj.weight.detach() * 1.5)


def _hooked(model):
    model.model.model.layers[0].mlp.register_forward_hook(lambda module, args, out: out * 2)


def _wrapped(model):
    class Doubled(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return 2 * self.inner(x)

    mlp = model.model.model.layers[0].mlp
    mlp.up_proj = Doubled(mlp.up_proj)


def _patched(model):
    mlp = model.model.model.layers[0].mlp
    original = mlp.forward
    mlp.forward = lambda x: 2 * original(x)


@pytest.mark.parametrize("kind", ["torchao int8", "torchao int4, groups"])
def test_nothing_is_kept_of_a_quantised_model_whose_codes_changed(kind):
    model = attached(quantised_model(kind))
    layout = lay_out([sequences()], True, "cpu")
    below, shapes = below_of(model)
    before = assert_right(below, model, layout)
    assert_right(below, model, layout)
    assert shapes == [(1, len(BEGIN)), (3, 7), (3, 7)]  # the beginning was kept
    with torch.no_grad():
        model.model.model.layers[0].mlp.up_proj.weight.scale.mul_(1.5)
    after = assert_right(below, model, layout)
    assert not torch.allclose(before.outputs[layout.tokens], after.outputs[layout.tokens], rtol=1e-2)


@pytest.mark.parametrize("change", [_changed_in_place, _loaded, _replaced, _hooked, _wrapped, _patched])
def test_nothing_is_kept_of_a_model_that_changed(change):
    model = tiny_memoir()
    layout = lay_out([sequences()], True, "cpu")
    below, _ = below_of(model)
    before = assert_right(below, model, layout)
    change(model)
    after = assert_right(below, model, layout)
    assert not torch.allclose(before.outputs[layout.tokens], after.outputs[layout.tokens], rtol=1e-2)


def test_weights_that_count_no_changes_are_run_anew_and_may_change():
    """Tensors made under `torch.inference_mode()`, as a model that was loaded there has them."""
    model = tiny_memoir()
    layer = model.model.model.layers[0].mlp
    with torch.inference_mode():
        layer.up_proj.weight = nn.Parameter(layer.up_proj.weight.clone(), requires_grad=False)
        model.model.model.rotary_emb.inv_freq = model.model.model.rotary_emb.inv_freq.clone()
    assert layer.up_proj.weight.is_inference()
    below, shapes = below_of(model)
    layout = lay_out([sequences()], True, "cpu")
    before = assert_right(below, model, layout)
    with torch.inference_mode():
        layer.up_proj.weight.mul_(1.5)
    after = assert_right(below, model, layout)
    assert shapes == [(1, len(BEGIN)), (3, 7)] * 2
    assert not torch.allclose(before.outputs[layout.tokens], after.outputs[layout.tokens], rtol=1e-2)
