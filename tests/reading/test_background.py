"""The background: measured, cached, shipped, and its errors."""

from __future__ import annotations

import warnings

import pytest
import torch

from memoir_fast import BackgroundTexts, load_texts
from memoir_fast.reading.background import measure_background
from tests.support.models import background_texts, tiny_memoir, tiny_model, word_tokenizer


def test_background_is_the_mean_over_real_tokens_and_is_cached(monkeypatch):
    model = tiny_memoir()
    base, means = tiny_model("llama"), []
    base.model.layers[1].mlp.down_proj.register_forward_hook(lambda m, args, out: means.append(args[0][0].mean(0)))
    for text in background_texts().for_mean:
        base(input_ids=torch.tensor([word_tokenizer()(text)["input_ids"]]))
    assert torch.allclose(model.memory.background, torch.stack(means).mean(0), atol=1e-5)
    monkeypatch.setattr("memoir_fast.reading.background.prompt_features", None)  # a second measurement would fail
    again = measure_background(model.model, model.router, model.encoder, background_texts(), _key(model), 16)
    assert torch.equal(again, model.memory.background)


def _key(model):
    from memoir_fast.base.fingerprint import digest

    return f"{digest(model.fingerprint)}-plain"


def test_shipped_background_and_its_errors(tmp_path):
    texts = load_texts()
    assert len(texts.records) == 500 and len(texts.for_mean) == 100 and len(texts.for_threshold) == 400
    assert len({prompt.lower() for prompt, _ in texts.records}) == 500
    path = tmp_path / "b.jsonl"
    for line, says in (
        ('{"x": 1}', "line 1"),
        ("[]", "line 1"),
        ('{"prompt": ""}', "line 1"),
        ('{"prompt": "a"}', "1 texts"),
    ):
        path.write_text(line)
        with pytest.raises(ValueError, match=says):
            load_texts(path)


def test_template_options_have_a_background_of_their_own():
    """A system prompt stands before the words and changes their activations: its mean is not the plain chat's, nor served as that."""
    plain = tiny_memoir(chat_template=True).memory.background
    spoken = tiny_memoir(chat_template=True, template_options={"system": "w170 w171 w172"}).memory.background
    assert not torch.allclose(plain, spoken, atol=1e-4)
    assert torch.equal(tiny_memoir(chat_template=True).memory.background, plain)


QUESTION, STATEMENT, LONG = "w30 w31 w32?", "w30 w31 w32", " ".join(["w30 w31"] * 21)


def test_texts_that_leave_none_to_calibrate_with_are_refused():
    with pytest.raises(ValueError, match="got 100 texts"):
        BackgroundTexts([(f"What is {number}?", "") for number in range(100)])


@pytest.mark.parametrize(
    ("prompts", "says"),
    [
        ([QUESTION] * 100, ["100% of the 100 prompts are questions", "are no longer than 40 words"]),
        ([STATEMENT] * 97 + [QUESTION] * 3, ["97% of the 100 prompts are no questions", "are no longer than 40 words"]),
        ([LONG] * 60 + [LONG + "?"] * 40, ["are longer than 40 words: the threshold promises nothing of short ones"]),
        ([QUESTION] * 50 + [LONG] * 50, []),
    ],
)
@pytest.mark.parametrize("router", ["tokens", "mask"])
def test_calibration_says_when_its_prompts_are_of_one_kind(router, prompts, says):
    texts = BackgroundTexts(
        [(LONG, "")] * 100 + [(prompt, "") for prompt in prompts]
    )  # the first hundred do not calibrate
    model = tiny_memoir(router=router, threshold=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.calibrate(background=texts)
        model.calibrate(rate=0.01)  # the same prompts: said once
    told = [str(one.message) for one in caught if "prompts" in str(one.message)]
    assert len(told) == len(says) and all(part in line for part, line in zip(says, told, strict=True))
    assert all(line.startswith("background: ") for line in told)


def test_a_new_memory_says_it_too():
    """Of prompts that it was given; the package's own are mixed in all but their length, as the documentation says."""
    with pytest.warns(UserWarning, match="100% of the 50 prompts are no questions"):
        tiny_memoir()
    (common,) = load_texts().one_kind()
    assert "no longer than 40 words" in common
