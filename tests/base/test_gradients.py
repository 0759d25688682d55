"""Quantised layers that pass no gradient back are found before an edit, whatever they are called; reading goes on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from memoir_fast import MemoirModel
from memoir_fast.base.gradients import check_gradients
from tests.support.models import attached, bits, tiny_model, word_tokenizer

EDIT = ("w100 w101 w102 w103", "w150 w151")


class Rounded(nn.Linear):
    """Another kind of linear layer that passes its gradient: weights of 8 bits."""

    def forward(self, x):
        step = self.weight.detach().abs().max() / 127
        return nn.functional.linear(x, (self.weight / step).round() * step)


class Lost(nn.Linear):
    """Its product passes no gradient back."""

    def forward(self, x):
        return super().forward(x.detach())


class Elsewhere(nn.Linear):
    """Its gradient is there, and is not its own."""

    def forward(self, x):
        return super().forward(x.detach()) + 0 * x.sum()


def _exchanged(kind: type[nn.Linear], layers=(2, 3)):
    model = tiny_model("llama")
    for number in layers:
        mlp = model.model.layers[number].mlp
        made = kind(32, 96, bias=False)
        made.load_state_dict(mlp.up_proj.state_dict())
        mlp.up_proj = made.requires_grad_(False)
    return model.eval()


@pytest.mark.parametrize("kind", [Lost, Elsewhere])
def test_lost_gradients_are_refused_before_anything_changes(kind, tmp_path):
    plain = attached(tiny_model("llama"))
    plain.edit(*EDIT)
    plain.save_pretrained(tmp_path)
    model = _exchanged(kind)
    made = attached(model)
    with pytest.raises(
        ValueError, match=rf"its {kind.__name__} layers \(tests\) pass no gradient back on the device cpu.*can be read"
    ):
        made.edit(*EDIT)
    assert len(made.memory) == 0 and not made.memory.V.any() and not made.edits
    read = MemoirModel.load(tmp_path, made.detach(), word_tokenizer())
    assert read.ask(EDIT[0], max_new_tokens=2) == EDIT[1]


def test_other_kinds_that_pass_it_are_edited():
    made = attached(_exchanged(Rounded))
    made.edit(*EDIT)
    assert made.ask(EDIT[0], max_new_tokens=2) == EDIT[1]


class LostOnOne(nn.Linear):
    """Its product passes no gradient back on one device; `lost` says on which it is."""

    lost = False

    def forward(self, x):
        return super().forward(x.detach() if self.lost else x)


def test_a_kind_is_tried_on_every_device_that_it_is_on():
    """There may be no second one here: the layer above is named as accelerate names an offloaded one that computes elsewhere."""
    model = _exchanged(LostOnOne)
    above = model.model.layers[3].mlp.up_proj
    above.lost = True
    above._hf_hook = SimpleNamespace(execution_device="cpu:0", offload=True)
    with pytest.raises(ValueError, match=r"LostOnOne layers .* pass no gradient back on the device cpu:0"):
        check_gradients(model, attached(model).target)


def test_only_what_lies_above_the_projection_counts_and_the_model_stays_as_it_was():
    model = _exchanged(Lost, layers=(0, 1))
    made = attached(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.model.layers[3].train()
    check_gradients(model, made.target)
    assert model.model.layers[3].training and not any(p.grad is not None for p in model.parameters())
    assert all(torch.equal(bits(tensor), bits(before[name])) for name, tensor in model.state_dict().items())
