"""Where the memory acts: with acts="answer" from the question's last token on, while it is written and while it is read."""

from __future__ import annotations

import pytest
import torch

from memoir_fast import EditRequest, MemoirConfig
from tests.support.models import attached, bits, tiny_model

FACT = ("w100 w101 w102 w103", "w150 w151")


@pytest.fixture(params=["tokens", "mask"])
def model(request):
    """In the tests' chat template, whose header stands behind the question."""
    found = attached(tiny_model("llama"), chat_template=True, router=request.param, contexts=0)
    found.edit(*FACT)
    yield found
    found.detach()


def _hidden(model, sequence, **kwargs):
    """The last hidden states (T, h) behind the edited layer."""
    out = model(input_ids=torch.tensor([sequence.tokens]), output_hidden_states=True, **kwargs)
    return out.hidden_states[model.target.layer + 1][0]


def test_chats_act_on_the_answer_and_plain_text_on_all():
    chat, plain = (attached(tiny_model("llama"), chat_template=chat) for chat in (True, False))
    assert (chat.config.acts, plain.config.acts) == ("answer", "all")
    assert MemoirConfig(recipe="published").acts == "all"
    assert MemoirConfig.from_dict({"top_k": 3}).acts == "all"  # stored before there was a choice
    with pytest.raises(ValueError, match="acts"):
        MemoirConfig(acts="question")


@torch.no_grad()
def test_tokens_before_the_questions_end_keep_every_bit(model):
    sequence = model.encoder.prompt(FACT[0])
    mask = torch.tensor([sequence.prompt_mask])
    edited = _hidden(model, sequence, prompt_mask=mask)
    with model.disabled():
        before = _hidden(model, sequence)
    begin = sequence.begin
    assert 0 < begin < len(sequence.tokens) - 1
    assert torch.equal(bits(edited[:begin]), bits(before[:begin]))
    assert all(not torch.equal(a, b) for a, b in zip(edited[begin:], before[begin:], strict=True))


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_moves_the_begin(model, side):
    sequence = model.encoder.prompt(FACT[0])
    alone = model(input_ids=torch.tensor([sequence.tokens]), prompt_mask=torch.tensor([sequence.prompt_mask])).logits[0]
    extra, pad = 3, model.tokenizer.pad_token_id
    around = (lambda x, fill: [fill] * extra + x) if side == "left" else (lambda x, fill: x + [fill] * extra)
    padded = model(
        input_ids=torch.tensor([around(sequence.tokens, pad)]),
        attention_mask=torch.tensor([around([1] * len(sequence.tokens), 0)]),
        prompt_mask=torch.tensor([around(sequence.prompt_mask, False)]),
    ).logits[0]
    real = padded[extra:] if side == "left" else padded[:-extra]
    assert torch.allclose(real, alone, atol=1e-4)


@torch.no_grad()
def test_answers_are_the_same_with_and_without_a_cache(model):
    tokens = torch.tensor([model.encoder.prompt(FACT[0]).tokens])
    mask = torch.tensor([model.encoder.prompt(FACT[0]).prompt_mask])
    answers = [
        model.generate(tokens, prompt_mask=mask, max_new_tokens=4, do_sample=False, use_cache=cached)[0].tolist()
        for cached in (True, False)
    ]
    assert answers[0] == answers[1]
    assert model.ask(FACT[0], max_new_tokens=2) == FACT[1]


def test_saved_and_opened_again(model, tmp_path):
    model.save_pretrained(tmp_path / "memory")
    again = type(model).load(str(tmp_path / "memory"), tiny_model("llama"), model.tokenizer)
    assert again.config.acts == "answer" and again.ask(FACT[0], max_new_tokens=2) == FACT[1]
    with pytest.raises(ValueError, match="acts: the memory was stored with 'answer'"):
        type(model).load(str(tmp_path / "memory"), tiny_model("llama"), model.tokenizer, acts="all")


def test_only_the_acting_tokens_are_recorded(model):
    (update,) = model.editor.optimise([EditRequest(*FACT)], model.config).updates
    encoder = model.encoder
    sequences = [*encoder.pairs(*FACT), encoder.pair(f"Can you tell me: {FACT[0]}", FACT[1])]
    assert len(update.features) == sum(len(s.tokens) - 1 - s.begin for s in sequences)
    whole = model.editor.optimise([EditRequest(*FACT)], model.config.updated(acts="all")).updates[0]
    assert len(whole.features) == sum(len(s.tokens) - 1 for s in sequences)


def test_a_prompt_that_just_fits_is_edited_without_the_longer_wording(model):
    encoder = model.encoder
    room = encoder.max_length - len(encoder.pair("w100", "w150").tokens)
    result = model.edit(" ".join(f"w{100 + n % 50}" for n in range(room + 1)), "w150")
    assert result.id == 1
    with pytest.raises(ValueError, match="context holds 256"):
        model.edit(" ".join(f"w{100 + n % 50}" for n in range(room + 2)), "w150")
