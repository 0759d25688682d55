"""Quantised weights, read by blocks of rows: the packages' own numbers, and the values of the model's own layers and autograd."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from memoir_fast.editing import head, parts, weights
from memoir_fast.editing.layout import lay_out
from memoir_fast.editing.replay import Replay
from memoir_fast.editing.suffix import Suffix, supports
from tests.support.models import attached
from tests.support.quantised import LEFT, PACKED, READ, quantised_model
from tests.support.wide import Largest

EDIT = ("w100 w101 w102 w103", "w150 w151")
PAIRS = [EDIT, ("w100", "w152"), ("w104 w105 w101 w100 w109 w110", "w153 w154 w155")]


def _layout(model, acts="all"):
    return lay_out([[model.encoder.pair(*pair)] for pair in PAIRS], True, "cpu", acts=acts)


def _passes(kind, model, layout, outputs, **kwargs):
    return kind(model.model, model.router, model.target, layout, **kwargs).losses_and_gradient(outputs)


def _outputs(model, layout):
    base = Replay(model.model, model.router, model.target, layout).outputs
    base = base.reshape(-1, base.shape[-1])[layout.tokens[layout.acting]].float()
    return base + base.std() * torch.randn(base.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", READ)
def test_rows_are_the_numbers_that_the_package_says(kind):
    model = quantised_model(kind)
    for module in (model.model.layers[2].mlp.down_proj, model.model.layers[3].self_attn.k_proj, model.lm_head):
        assert weights.readable(module)
        wanted = module.weight.dequantize()
        count = len(wanted)
        for rows in (slice(0, count), slice(3, 11), slice(count // 2 - 1, count), torch.tensor([5, 2, count - 1, 2])):
            found = weights.rows_of(module.weight, rows, torch.float32)
            assert type(found) is torch.Tensor and found.dtype == torch.float32
            assert torch.allclose(found, wanted[rows], rtol=1e-6, atol=1e-7)


FAMILIES = [
    *((kind, "llama") for kind in READ),
    ("torchao int8", "qwen2"),
    ("quanto int4", "qwen2"),
    ("quanto int8", "qwen3"),
]


@pytest.mark.parametrize(("kind", "family"), FAMILIES)
def test_losses_and_gradient_are_those_of_the_model(kind, family, monkeypatch):
    monkeypatch.setattr(weights, "_NUMBERS", 7 * 64)  # blocks of 7 rows and less, the last one shorter
    monkeypatch.setattr(head, "_BLOCK", 48)
    model = attached(quantised_model(kind, family))
    assert supports(model.model, model.target)
    for acts in ("all", "answer"):
        layout = _layout(model, acts)
        outputs = _outputs(model, layout)
        loss, gradient = _passes(Suffix, model, layout, outputs)
        wanted_loss, wanted = _passes(Replay, model, layout, outputs)
        assert torch.allclose(loss, wanted_loss, rtol=1e-4)
        assert torch.allclose(gradient, wanted, rtol=1e-3, atol=1e-5 + 1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("units", [True, False])
@pytest.mark.parametrize("kind", READ)
def test_models_in_bfloat16_have_the_values_of_their_own_code_as_nearly_as_it_rounds(kind, units, monkeypatch):
    monkeypatch.setattr(weights, "has_bfloat16", lambda device: units)
    model = attached(quantised_model(kind, dtype=torch.bfloat16))
    assert supports(model.model, model.target)
    layout = _layout(model)
    outputs = _outputs(model, layout)
    loss, gradient = _passes(Suffix, model, layout, outputs)
    wanted_loss, wanted = _passes(Replay, model, layout, outputs)
    assert torch.allclose(loss, wanted_loss, rtol=5e-2, atol=5e-2)
    assert nn.functional.cosine_similarity(gradient.flatten(), wanted.flatten(), 0) > 0.98


@pytest.mark.parametrize("kind", READ)
def test_the_likeliest_tokens_of_a_quantised_head_stay_near_all_of_them(kind, monkeypatch):
    monkeypatch.setattr(head, "_CANDIDATES", 60)  # of 200 tokens
    model = attached(quantised_model(kind))
    layout = _layout(model)
    outputs = _outputs(model, layout)
    sparse = Suffix(model.model, model.router, model.target, layout, sparse=True)
    full = Suffix(model.model, model.router, model.target, layout)
    for step in range(5):
        some = outputs + 0.01 * step
        whole = sparse.next_is_full
        loss, gradient = sparse.losses_and_gradient(some)
        wanted_loss, wanted = full.losses_and_gradient(some)
        assert torch.equal(loss, wanted_loss) == whole
        assert torch.allclose(loss, wanted_loss, rtol=5e-2)
        assert nn.functional.cosine_similarity(gradient.flatten(), wanted.flatten(), 0) > 0.97


@pytest.mark.parametrize("kind", READ)
def test_no_more_than_a_block_of_a_weight_is_in_numbers(kind, monkeypatch):
    monkeypatch.setattr(weights, "_NUMBERS", 1 << 14)
    model = quantised_model(kind, hidden_size=512, intermediate_size=1024, head_dim=128)
    linear = model.model.layers[2].mlp.down_proj
    with torch.no_grad(), Largest(model) as largest:
        parts.affine(linear, torch.ones(3, 1024)), parts.back(torch.ones(3, 512), linear)
    assert largest.bytes <= 8 * (1 << 14) < 512 * 1024
    made = head.Head(model.lm_head.weight, torch.tensor([5]), torch.ones(1), False, True, torch.empty(200))
    monkeypatch.setattr(head, "_BLOCK", 16)
    with Largest(model) as largest:
        made.losses_and_gradient(torch.ones(1, 512))
    assert largest.bytes <= 8 * 16 * 512


@pytest.mark.parametrize("kind", LEFT)
def test_layers_that_compute_otherwise_are_not_read(kind):
    model = attached(quantised_model(kind))
    assert not supports(model.model, model.target)
    assert not weights.readable(model.inner.model.layers[2].mlp.up_proj)


def test_a_weight_that_is_multiplied_differently_is_not_read():
    model = quantised_model("torchao int8")
    linear = model.model.layers[2].mlp.down_proj
    assert weights.readable(linear)
    linear.weight.act_pre_scale = torch.full((192,), 0.5)  # as SmoothQuant does
    assert not weights.readable(linear)


def _packed(kind: str, dtype: torch.dtype = torch.float32):
    """A model quantised to 4 bits by bitsandbytes, and one with the numbers that the package itself makes of its weights."""
    functional = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes is not installed")
    sizes = {"vocab_size": 224}
    model, plain = (quantised_model(kind, dtype=dtype, **sizes) for _ in range(2))
    for path, module in list(plain.named_modules()):
        if type(module).__name__ == "Linear4bit":
            made = nn.Linear(module.in_features, module.out_features, bias=False, dtype=dtype)
            made.weight = nn.Parameter(functional.dequantize_4bit(module.weight.data, module.weight.quant_state), False)
            parent, _, name = path.rpartition(".")
            setattr(plain.get_submodule(parent), name, made)
    return model, plain


@pytest.mark.parametrize("kind", PACKED)
def test_four_bits_are_read_in_both_layouts(kind):
    """bitsandbytes lays them out anew on CPUs with AVX-512 BF16 when they are first multiplied, with scales in bfloat16."""
    model, plain = _packed(kind)
    for path in ("model.layers.2.mlp.down_proj", "model.layers.3.self_attn.k_proj", "lm_head"):
        module, wanted = model.get_submodule(path), plain.get_submodule(path).weight
        assert weights.readable(module) and weights.sizes_of(module.weight) == tuple(wanted.shape)
        count = len(wanted)
        for tolerance in (1e-6, 2**-8):
            for rows in (slice(0, count), slice(3, 11), slice(count - 33, count), torch.tensor([5, 2, count - 1, 2])):
                found = weights.rows_of(module.weight, rows, torch.float32)
                assert torch.allclose(found, wanted[rows], rtol=tolerance, atol=1e-7)
            with torch.no_grad():
                module(torch.ones(1, module.in_features))
            laid_out_anew = getattr(module.weight.quant_state, "packing_format_for_cpu", False)
            assert laid_out_anew == sys.modules["bitsandbytes.functional"].has_avx512bf16()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", PACKED)
def test_models_in_four_bits_have_the_values_of_their_numbers(kind, dtype, monkeypatch):
    monkeypatch.setattr(weights, "_NUMBERS", 7 * 64)
    model, plain = map(attached, _packed(kind, dtype))
    assert supports(model.model, model.target)
    layout = _layout(model)
    outputs = _outputs(plain, layout)
    ours = Suffix(model.model, model.router, model.target, layout)
    # From the same states: those that the layers below gave are computed by the package, in bfloat16.
    ours._residual = Suffix(plain.model, plain.router, plain.target, layout)._residual
    loss, gradient = ours.losses_and_gradient(outputs)
    wanted_loss, wanted = _passes(Replay, plain, layout, outputs)
    assert torch.allclose(loss, wanted_loss, rtol=5e-2, atol=5e-2)
    assert nn.functional.cosine_similarity(gradient.flatten(), wanted.flatten(), 0) > 0.98


@pytest.mark.parametrize("kind", PACKED)
def test_edits_of_models_in_four_bits_are_learned(kind):
    model = attached(quantised_model(kind, vocab_size=224))
    assert supports(model.model, model.target)
    model.edit(*EDIT)
    assert model.ask(EDIT[0], max_new_tokens=2) == EDIT[1]


def test_four_bits_in_other_families_need_gradients_of_their_own():
    model = attached(quantised_model("bitsandbytes nf4", "olmo2", vocab_size=224))
    assert not supports(model.model, model.target)
    if sys.modules["bitsandbytes.functional"].has_avx512bf16():
        with pytest.raises(
            ValueError, match=r"its Linear4bit layers \(bitsandbytes\) pass no gradient back on the device cpu"
        ):
            model.edit(*EDIT)
    else:
        model.edit(*EDIT)
        assert model.ask(EDIT[0], max_new_tokens=2) == EDIT[1]


@pytest.mark.parametrize("precision", ["exact", "fast"])
@pytest.mark.parametrize("kind", ["torchao int8", "torchao int4, groups", "quanto int8", "quanto int4"])
def test_edits_are_learned_by_hand(kind, precision, monkeypatch):
    seen, run = [], Suffix.losses_and_gradient
    monkeypatch.setattr(Suffix, "losses_and_gradient", lambda self, outputs: seen.append(1) or run(self, outputs))
    model = attached(quantised_model(kind), precision=precision)
    before = {name: tensor.clone() for name, tensor in model.inner.state_dict().items() if type(tensor) is torch.Tensor}
    model.edit(*EDIT)
    assert seen and model.ask(EDIT[0], max_new_tokens=2) == EDIT[1]
    assert model.editor._halved is None  # weights that are smaller than bfloat16 are not copied into it
    after = model.inner.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
