"""A model with a memory attached stays the Hugging Face model that it is, and detaching undoes attaching."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from memoir_fast import MemoirModel
from memoir_fast.base.attachment import attachment_of
from tests.support.models import background_texts, bits, tiny_memoir, tiny_model, word_tokenizer

EDIT = ("w100 w101 w102 w103", "w150 w151")


def _edited(**settings) -> MemoirModel:
    model = tiny_memoir(**settings)
    model.edit(*EDIT)
    return model


def _state(model) -> dict:
    return {name: bits(value).clone() for name, value in model.state_dict().items()}


def test_the_state_dict_is_the_base_models(tmp_path):
    base = _state(tiny_model("llama"))
    model = _edited()
    held = _state(model.model)
    assert held.keys() == base.keys() and all(torch.equal(held[name], base[name]) for name in base)
    model.model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(bits(value), base[name]) for name, value in again.state_dict().items())
    assert model.model.load_state_dict(tiny_model("llama", seed=1).state_dict()).missing_keys == []


def test_modules_parameters_and_hooks_come_back_as_they_were():
    base = tiny_model("llama")
    modules, hooks = (
        list(base.named_modules()),
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in base.modules()],
    )
    model = tiny_memoir()
    model.detach()
    fresh = tiny_model("llama")
    for _ in range(2):
        made = MemoirModel(fresh, word_tokenizer(), model.config, background_texts())
        assert [name for name, _ in fresh.named_modules()] == [name for name, _ in modules]
        made.attach()
        made.attach()
        assert made.detach() is fresh and made.detach() is fresh
        assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in fresh.modules()] == hooks


def test_detached_and_attached_again_it_goes_on():
    model = _edited()
    assert model.ask(EDIT[0], max_new_tokens=2) == EDIT[1]
    model.detach()
    assert model.ask(EDIT[0], max_new_tokens=2) != EDIT[1]
    model.attach()
    assert model.ask(EDIT[0], max_new_tokens=2) == EDIT[1]
    with model as same:
        assert same is model and attachment_of(model.model) is not None
    assert attachment_of(model.model) is None


def test_frozen_parameters_stay_frozen_and_others_never_were():
    model = _edited()
    first, *others = model.model.parameters()
    first.requires_grad_(False)  # a trainer freezes it after the memory was attached
    model.edit("w110 w111", "w160")
    model.detach()
    assert not first.requires_grad and all(p.requires_grad for p in others)


def test_an_edit_gives_modes_and_gradients_back():
    model = _edited()
    model.model.train()
    model.model.model.layers[0].eval()
    model.edit("w110 w111", "w160")
    assert model.model.training and not model.model.model.layers[0].training and model.model.model.layers[2].training
    assert all(p.requires_grad for p in model.model.parameters())


def test_attaching_that_fails_leaves_nothing():
    base = tiny_model("llama")
    for settings, error in (
        ({"top_k": 10_000}, ValueError),
        ({"chat_template": "x"}, TypeError),
        ({"layer": 77}, ValueError),
    ):
        with pytest.raises(error):
            from memoir_fast import MemoirConfig

            MemoirModel(
                base, word_tokenizer(), MemoirConfig(**{"layer": 1, "top_k": 24, **settings}), background_texts()
            )
        assert attachment_of(base) is None
    with pytest.raises(ValueError, match="background must be"):
        MemoirModel(base, word_tokenizer(), background=torch.zeros(3))
    assert attachment_of(base) is None and not any(m._forward_hooks for m in base.modules())
    made = MemoirModel(base, word_tokenizer(), background=background_texts())
    with pytest.raises(ValueError, match="carries a memory already"):
        MemoirModel(base, word_tokenizer(), background=background_texts())
    assert attachment_of(base) is made.attachment


def test_copies_and_pickles_are_refused_with_a_sentence():
    model = _edited()
    for what in (model, model.model):
        for act in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=r"cannot be copied or pickled"):
                act(what)
    model.detach()
    copied = copy.deepcopy(model.model)
    assert all(
        torch.equal(bits(a), bits(b)) for a, b in zip(copied.parameters(), model.model.parameters(), strict=True)
    )


def test_caches_and_fronts_wait_for_no_garbage_collector():
    model = _edited()
    tokens = torch.tensor([model.encoder.prompt(EDIT[0]).tokens])
    gc.collect()
    gc.disable()
    try:
        cache = DynamicCache()
        with torch.no_grad():
            out = model(input_ids=tokens, past_key_values=cache)
        assert cache.memoir_routes.edits == [0]
        gone = [weakref.ref(cache), weakref.ref(cache.layers[0].keys), weakref.ref(cache.memoir_routes)]
        copied = pickle.loads(pickle.dumps(cache))
        assert copied.memoir_routes.edits == [0] and type(copied).__name__ == "DynamicCache"
        del cache, out, copied
        assert [ref() for ref in gone] == [None] * 3
        out = model.generate(tokens, max_new_tokens=2, pad_token_id=0, return_dict_in_generate=True)
        kept = next(value for value in out.values() if hasattr(value, "get_seq_length"))
        gone = weakref.ref(kept)
        del out, kept
        assert gone() is None
        front = weakref.ref(model)
        del model
        assert front() is None
    finally:
        gc.enable()
