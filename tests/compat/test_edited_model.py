"""What comes back is handled as the published editor's model is, and none of its handles loses the memory."""

from __future__ import annotations

import pytest
import torch

from memoir_fast.compat.easyedit import EditedModel, apply_memoir_to_model
from memoir_fast.compat.tensors import memory_tensors
from tests.compat.support import PROMPTS, TARGETS, logits
from tests.support.models import bits, tiny_model, word_tokenizer


@pytest.fixture
def edited(hparams) -> EditedModel:
    requests = [{"prompt": p, "target_new": t} for p, t in zip(PROMPTS, TARGETS, strict=True)]
    return apply_memoir_to_model(*hparams.model_name, requests, hparams)[0]


def test_modules_methods_return_the_edited_model(edited, hparams):
    assert edited.model is hparams.model_name[0]
    before = logits(edited, PROMPTS[0])
    for name, arguments in (
        ("eval", ()),
        ("to", ("cpu",)),
        ("cpu", ()),
        ("float", ()),
        ("requires_grad_", (False,)),
        ("train", (False,)),
    ):
        assert getattr(edited, name)(*arguments) is edited
    assert torch.equal(bits(logits(edited.eval().to("cpu"), PROMPTS[0])), bits(before))
    assert not edited.training and next(edited.parameters()).device.type == "cpu"
    out = edited.eval().generate(
        torch.tensor([word_tokenizer()(PROMPTS[0])["input_ids"]]), max_new_tokens=1, do_sample=False
    )
    assert word_tokenizer().decode(out[0, -1:]) == "w150"


def test_a_state_dict_holds_the_memory(edited):
    found, place = edited.state_dict(), f"model.{edited.memoir.target.path}"
    base = edited.model.state_dict()
    assert {f"model.{name}" for name in base} < found.keys()
    for name, tensor in memory_tensors(edited.memoir).items():
        assert torch.equal(found[f"{place}.{name}"], tensor)
    assert found[f"{place}.new_weight"].any() and found[f"{place}.masks"].shape == (2, 96)
    with pytest.raises(NotImplementedError, match="save_pretrained"):
        edited.load_state_dict(found)


def test_the_adapter_is_shown_as_theirs(edited):
    adapter = edited.get_adapter_layer()
    projection = edited.model.get_submodule(edited.memoir.target.path)
    assert adapter.layer is adapter.original_layer is projection and adapter.weight is projection.weight
    assert adapter.new_weight.shape == projection.weight.shape
    assert len(adapter.masks_for_edited_samples) == 2 and (adapter.masks_for_edited_samples.sum(1) == 24).all()
    assert adapter.hasher.top_k == 24 and adapter.hasher.permutation.sort().values.equal(torch.arange(96))
    # Their forward pass over what they show gives our answer.
    seen = []
    hook = projection.register_forward_hook(lambda m, args, out: seen.append((args[0], out)))
    with edited.memoir.disabled():
        logits(edited, PROMPTS[0])
    hook.remove()
    x, out = seen[0]
    feature = x[0].mean(0) - adapter.loaded_irrelevant_sample_mean_features
    mask = torch.zeros(96, dtype=torch.bool)
    mask[adapter.hasher.permutation[feature.abs().topk(24).indices]] = True
    assert torch.equal(mask, adapter.masks_for_edited_samples[0])
    theirs = out + (x * mask) @ adapter.new_weight.T
    edited.model.get_submodule(edited.memoir.target.path).register_forward_hook(
        lambda m, args, out: seen.append((args[0], out))
    )
    logits(edited, PROMPTS[0])
    assert torch.allclose(seen[-1][1], theirs, atol=1e-5)


def test_reset_layer_gives_the_base_model_back(edited):
    edited.reset_layer()
    assert len(edited.memoir.memory) == 0
    assert torch.equal(bits(logits(edited, PROMPTS[0])), bits(logits(tiny_model("llama"), PROMPTS[0])))
    edited.memoir.edit(PROMPTS[0], TARGETS[0])  # and can be edited again
    assert not torch.equal(logits(edited, PROMPTS[0]), logits(tiny_model("llama"), PROMPTS[0]))


def test_the_memory_is_saved_not_the_base_model(edited, tmp_path):
    edited.save_pretrained(str(tmp_path / "memory"))
    assert not list((tmp_path / "memory").glob("model*.safetensors"))
