"""The drop-in's calls: what users of transformers pass, on the edited model and on the wrapped model's own `generate`."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch
from transformers import DynamicCache, GenerationConfig, pipeline
from transformers.utils import logging

import memoir_fast
from memoir_fast import MemoirConfig, MemoirModel
from tests.support.models import tiny_memoir, tiny_model

EDIT = ("w100 w101 w102 w103", "w150 w151")


@pytest.fixture(scope="module", params=["tokens", "mask"])
def edited(request):
    model = tiny_memoir(router=request.param, threshold=None if request.param == "tokens" else 0.7)
    model.edit(*EDIT)
    return model


def _ids(model) -> torch.Tensor:
    return torch.tensor([model.encoder.prompt(EDIT[0]).tokens])


def _text(model, out, length: int) -> str:
    return model.tokenizer.decode(out[0, length:])


def test_unknown_settings_are_refused_before_anything_is_loaded(edited):
    for name, near in (("top_kk", "top_k"), ("edit_lrr", "edit_lr"), ("devise", "device"), ("read_onli", "read_only")):
        with pytest.raises(TypeError, match=f"unknown setting '{name}': did you mean '{near}'"):
            MemoirModel.from_pretrained("no/such-model", **{name: 1})
    with pytest.raises(TypeError, match="unknown setting 'zzzzzzzz': the settings are layer"):
        MemoirModel.from_pretrained("no/such-model", zzzzzzzz=1)
    with pytest.raises(ValueError, match="top_k must be"):
        MemoirModel.from_pretrained("no/such-model", top_k=0)
    with pytest.raises(TypeError, match="did you mean 'steps'"):
        edited.edit("w1 w2", "w3", stepz=2)
    with pytest.raises(TypeError, match="did you mean 'steps'"):
        MemoirModel.load("nowhere", edited.model, edited.tokenizer, stepz=2)
    with pytest.raises(TypeError, match="did you mean 'steps'"):
        MemoirConfig().updated(stepz=2)


def test_lazily_loaded_names_are_listed():
    assert set(memoir_fast.__all__) <= set(dir(memoir_fast))
    code = "import memoir_fast, sys; dir(memoir_fast); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_ask_returns_as_many_answers_as_sequences(edited):
    answers = edited.ask([EDIT[0], "w120 w121"], max_new_tokens=2, num_beams=3, num_return_sequences=3)
    assert [len(one) for one in answers] == [3, 3] and answers[0][0] == EDIT[1] and len(set(answers[0])) == 3
    assert edited.ask(EDIT[0], max_new_tokens=2, num_beams=2, num_return_sequences=2) == answers[0][:2]
    assert edited.ask(EDIT[0], max_new_tokens=2, return_dict_in_generate=True, output_scores=True) == EDIT[1]


def test_ask_takes_content_parts():
    model = tiny_memoir(chat_template=True)
    model.edit(*EDIT)
    parts = [{"type": "text", "text": "w100 w101"}, {"type": "text", "text": "w102 w103"}]
    assert model.ask([{"role": "user", "content": parts}], max_new_tokens=2) == EDIT[1]
    assert model.route([{"role": "user", "content": parts[:1] + parts[1:]}])["edit"] == 0
    for part in ({"type": "image_url", "image_url": {"url": "x"}}, "w100", {"type": "text"}):
        with pytest.raises(ValueError, match='may hold parts of type "text"'):
            model.ask([{"role": "user", "content": [*parts, part]}])


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt_lookup_num_tokens": 3},
        {"guidance_scale": 2.0},
        {"prefill_chunk_size": 2},
        {"cache_implementation": "paged"},
        {"use_mtp": True},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_what_a_memory_cannot_follow_is_refused_whoever_generates(edited, asked):
    (name, value), ids = next(iter(asked.items())), _ids(edited)
    if not hasattr(GenerationConfig(), name):
        pytest.skip(f"this version of transformers has no {name}")
    settings = {"max_new_tokens": 2, "attention_mask": torch.ones_like(ids)}
    for generate in (edited.generate, edited.model.generate):
        with pytest.raises(ValueError, match=f"{name}.*is not supported with a memory"):
            generate(input_ids=ids, **asked, **settings)
        with pytest.raises(ValueError, match=f"{name}.*is not supported with a memory"):
            generate(ids, generation_config=GenerationConfig(**asked), **settings)
        setattr(edited.model.generation_config, name, value)
        try:
            with pytest.raises(ValueError, match=f"{name}.*is not supported with a memory"):
                generate(input_ids=ids, **settings)
        finally:
            setattr(edited.model.generation_config, name, None)
    with pytest.raises(ValueError, match="assistant_model is not supported"):
        edited.model.generate(ids, assistant_model=tiny_model("llama", seed=1), **settings)
    if name not in ("cache_implementation", "use_mtp"):  # the tiny model has no layers that predict several tokens
        with edited.disabled():  # then it is the base model, which may
            edited.model.generate(ids, **settings)


def test_positional_and_named_batches(edited):
    batch = edited.tokenizer([EDIT[0]], return_tensors="pt", return_token_type_ids=False)
    length = batch["input_ids"].shape[1]
    assert _text(edited, edited.generate(batch, max_new_tokens=2), length) == EDIT[1]
    assert _text(edited, edited.generate(**batch, max_new_tokens=2), length) == EDIT[1]
    with pytest.raises(TypeError, match="given twice"):
        edited.generate(batch, attention_mask=batch["attention_mask"])


def test_pipelines_take_the_wrapped_model_and_say_so(edited):
    made = pipeline("text-generation", model=edited.model, tokenizer=edited.tokenizer)
    assert (
        made(EDIT[0], max_new_tokens=2, do_sample=False, return_full_text=False)[0]["generated_text"].strip() == EDIT[1]
    )
    with pytest.raises(AttributeError, match=r"is its attribute `model`"):
        pipeline("text-generation", model=edited, tokenizer=edited.tokenizer)


def test_the_wrapped_models_generate_decides_once_without_a_cache(edited):
    ids = _ids(edited)
    out = edited.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, use_cache=False
    )
    want = edited.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
    assert out.tolist() == want.tolist()


def test_a_prompt_mask_that_comes_too_late_is_refused(edited):
    ids, cache = _ids(edited), DynamicCache()
    with torch.no_grad():
        edited(ids, attention_mask=torch.ones_like(ids), use_cache=True, **{_cache_name(edited): cache})
        with pytest.raises(ValueError, match="prompt_mask: the key-value cache holds tokens"):
            edited(ids[:, -1:], prompt_mask=torch.ones(1, 1, dtype=torch.bool), **{_cache_name(edited): cache})
        longer = torch.cat([ids, ids], 1)
        with pytest.raises(ValueError, match="prompt_mask: the key-value cache holds tokens"):
            edited.generate(
                longer, prompt_mask=torch.ones_like(longer).bool(), max_new_tokens=1, **{_cache_name(edited): cache}
            )


def test_a_loop_that_is_written_by_hand_reads_the_edit(edited):
    """A pass over the prompt, then one a token with the cache that it gave back, by the name that this transformers has for it."""
    ids, found = _ids(edited), []
    mask, name = torch.ones_like(ids), _cache_name(edited)
    with torch.no_grad():
        out = edited.model(ids, attention_mask=mask, use_cache=True)
        for _ in range(2):
            found.append(out.logits[:, -1].argmax(-1, keepdim=True))
            mask = torch.cat([mask, torch.ones_like(found[-1])], 1)
            out = edited.model(found[-1], attention_mask=mask, use_cache=True, **{name: getattr(out, name)})
        assert edited.tokenizer.decode(torch.cat(found, 1)[0]) == EDIT[1]
        whole = torch.cat([ids, *found], 1)  # and without a cache, from the beginning at each token
        longer = edited.model(
            whole, attention_mask=mask, use_cache=False, prompt_mask=torch.arange(mask.shape[1])[None] < ids.shape[1]
        )
        assert longer.logits[0, -2].argmax() == found[-1]
        for past in ({}, {name: object()}):  # the earlier tokens' route is not known
            with pytest.raises(ValueError, match="no key-value cache that this library"):
                edited.model(found[-1], attention_mask=mask, **past)
        foreign = getattr(tiny_model("llama")(ids, use_cache=True), name)
        with pytest.raises(ValueError, match="never decided"):
            edited.model(found[-1], attention_mask=mask, **{name: foreign})


def _cache_name(model) -> str:
    """What this version of transformers calls the cache in a forward pass."""
    import inspect

    names = inspect.signature(model.model.forward).parameters
    return "cache" if "cache" in names else "past_key_values"


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_without_an_attention_mask_does_not_route(edited, side):
    ids = _ids(edited)
    pads = torch.zeros(1, 5, dtype=ids.dtype)
    padded = torch.cat([pads, ids] if side == "left" else [ids, pads], 1)
    with torch.no_grad():
        edited.model(ids)
        want = edited.router.last
        edited.model(torch.cat([ids, pads], 1))
    if side == "right":  # what stands before the padding is as it was
        assert edited.router.last.edits == [0] and edited.router.last.scores == pytest.approx(want.scores)
    for generate in (edited.generate, edited.model.generate):
        out = generate(padded, max_new_tokens=2, do_sample=False)
        masked = generate(padded, attention_mask=(padded != 0).long(), max_new_tokens=2, do_sample=False)
        assert out.tolist() == masked.tolist()
        assert side == "right" or _text(edited, out, padded.shape[1]) == EDIT[1]
        static = generate(padded, max_new_tokens=2, do_sample=False, cache_implementation="static")
        assert static.tolist() == out.tolist()


@pytest.mark.parametrize("cache", [None, "static"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_that_only_the_call_names_does_not_route(edited, cache, attention):
    """The padding token of the call, or of its configuration, counts as in transformers; so does that there is none."""
    ids, config = _ids(edited), edited.model.generation_config
    padded = torch.cat([torch.zeros(1, 5, dtype=ids.dtype), ids], 1)
    settings = {"max_new_tokens": 2, "do_sample": False} | ({} if cache is None else {"cache_implementation": cache})
    before, config.pad_token_id = config.pad_token_id, None
    edited.model.set_attn_implementation(attention)
    try:
        for generate in (edited.generate, edited.model.generate):
            want = generate(padded, attention_mask=(padded != 0).long(), **settings)
            assert _text(edited, want, padded.shape[1]) == EDIT[1]
            assert generate(padded, pad_token_id=0, **settings).tolist() == want.tolist()
            given = GenerationConfig(pad_token_id=0, **settings)
            assert generate(padded, generation_config=given).tolist() == want.tolist()
            assert not given.disable_compile  # the user's own is left alone
            assert _text(edited, generate(ids, **settings), ids.shape[1]) == EDIT[1]
        by_place = edited.model.generate(padded, GenerationConfig(pad_token_id=0, **settings))
        assert by_place.tolist() == want.tolist()
    finally:
        config.pad_token_id = before
        edited.model.set_attn_implementation("sdpa")


def test_prompts_joined_in_one_row_are_refused(edited):
    """As collators without padding join them: positions begin anew in the row, and one route would be decided for all."""
    ids = _ids(edited)
    two, places = torch.cat([ids, ids], 1), torch.arange(ids.shape[1]).repeat(2)[None]
    with torch.no_grad():
        with pytest.raises(ValueError, match="several prompts joined in one row"):
            edited.model(two, position_ids=places)
        with edited.disabled():
            edited.model(two, position_ids=places)
        edited.model(two, position_ids=torch.arange(two.shape[1])[None])
        mask = torch.tensor(
            [[*[1] * ids.shape[1], 0, 0]]
        )  # a mask says what is padding, whose positions are whatever they are
        right = torch.cat([ids, torch.zeros(1, 2, dtype=ids.dtype)], 1)
        edited.model(right, attention_mask=mask, position_ids=(mask.cumsum(1) - 1) * mask)
        assert edited.router.last.edits == [0]


def test_ask_takes_a_generation_config(edited, capfd):
    logging.set_verbosity_warning()
    beams = GenerationConfig(num_beams=3, num_return_sequences=3, max_new_tokens=2)
    answers = edited.ask([EDIT[0], "w120 w121"], generation_config=beams)
    assert answers == edited.ask([EDIT[0], "w120 w121"], max_new_tokens=2, num_beams=3, num_return_sequences=3)
    assert edited.ask(EDIT[0], generation_config=GenerationConfig(max_new_tokens=2)) == EDIT[1]
    assert edited.ask(EDIT[0], 2, generation_config=GenerationConfig()) == EDIT[1]
    assert beams.pad_token_id is None and "deprecated" not in capfd.readouterr().err
    config = edited.model.generation_config
    config.num_beams, config.num_return_sequences, config.do_sample = 2, 2, True
    try:  # a model's own defaults do not change how it is asked
        assert edited.ask(EDIT[0], max_new_tokens=2) == EDIT[1]
    finally:
        config.num_beams = config.num_return_sequences = config.do_sample = None


def test_nothing_we_call_is_deprecated(capfd):
    logging.set_verbosity_warning()
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        warnings.simplefilter("error", DeprecationWarning)
        model = tiny_memoir()
        model.edit(*EDIT)
        model.ask([EDIT[0], "w120"], max_new_tokens=2)
        for config in ({}, {"generation_config": GenerationConfig(max_new_tokens=2)}):
            model.model.generate(_ids(model), **(config or {"max_new_tokens": 2}))
    assert "deprecated" not in capfd.readouterr().err
