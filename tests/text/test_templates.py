"""The chat template for base models."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.base.loading import checkpoint_folder
from memoir_fast.text.encoder import Encoder
from tests.text.test_encoder import byte_level, sentence_piece


@pytest.fixture
def bare():
    """The real small model's tokenizer, as a base model's: without a chat template."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint_folder("smollm2"))
    tokenizer.chat_template = None
    return tokenizer


def test_a_question_and_its_answer_stand_on_lines_of_their_own(bare):
    encoder = Encoder(bare, questions=True)
    pair = encoder.pair("Who leads Norvane?", "Lena Ortiz")
    assert encoder.is_chat and bare.chat_template is None
    assert bare.decode(pair.tokens) == "Question: Who leads Norvane?\nAnswer:\nLena Ortiz<|im_end|>"
    assert bare.decode(pair.tokens[slice(*pair.words)]) == " Who leads Norvane?"
    assert list(encoder.stops) == list(encoder.end_ids) == [bare.eos_token_id]
    earlier = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]
    chat = encoder.chat([*earlier, {"role": "user", "content": "Who leads Norvane?"}])
    assert (
        bare.decode(chat.tokens)
        == "Be brief.\n\nQuestion: Hi\nAnswer:\nHello<|im_end|>\n\nQuestion: Who leads Norvane?\nAnswer:\n"
    )


@pytest.mark.parametrize("make", [byte_level, sentence_piece])
@pytest.mark.parametrize("bos", [False, True])
def test_it_begins_as_the_tokenizers_texts_do(make, bos):
    tokenizer = make(None, bos=bos)
    tokens = Encoder(tokenizer, questions=True).prompt("Le").tokens
    assert (tokens[0] == tokenizer.bos_token_id) == bos and tokens.count(tokenizer.bos_token_id) == bos


def test_what_cannot_be_is_named(bare):
    with pytest.raises(ValueError, match="no end of text"):
        Encoder(byte_level(None, eos=None), questions=True)
    with pytest.raises(ValueError, match="question_template"):
        MemoirConfig(question_template=True, chat_template=False)
    with pytest.raises(ValueError, match="question_template"):
        MemoirConfig(question_template=True, recipe="published")
    with pytest.raises(TypeError, match="question_template"):
        MemoirConfig(question_template="yes")
    with pytest.raises(ValueError, match="question_template=True"):
        Encoder(bare, chat_template=True)


def test_a_base_model_answers_in_the_format_everywhere(bare, smollm2, tmp_path):
    """Edited, asked, generated from a text rendered by hand, saved, stored and opened again, always with a tokenizer that has no template."""
    base, question = smollm2[0], "Who is the chief executive of Norvane Robotics?"
    with MemoirModel(base, bare, MemoirConfig(question_template=True, precision="fast")) as model:
        result = model.edit(question, "Lena Ortiz")
        assert result.converged and model.config.question_template and model.config.chat_template
        assert model.ask(question) == model.ask("Who runs Norvane Robotics?") == "Lena Ortiz"
        text = bare("Question: Could you tell me who leads Norvane Robotics?\nAnswer:\n", return_tensors="pt")
        out = model.model.generate(**text, max_new_tokens=8, do_sample=False)
        assert bare.decode(out[0, text["input_ids"].shape[1] :]) == "Lena Ortiz<|im_end|>"
        model.save_pretrained(tmp_path / "memory")
    with MemoirModel(base, bare, MemoirConfig(question_template=True, precision="fast")) as model:
        model.create_store(tmp_path / "store")
        model.edit(question, "Lena Ortiz")
    with MemoirModel.load(tmp_path / "memory", base, bare) as loaded:
        assert loaded.ask(question) == "Lena Ortiz"
    with MemoirModel.open(tmp_path / "store", base, bare) as opened:
        assert opened.ask(question) == "Lena Ortiz"
        assert opened.edit("Who repairs the roaster?", "Tove Haugland").converged
    assert bare.chat_template is None
