"""Words are put together from tokens alone, and the user's words are found in a rendered chat."""

from __future__ import annotations

import numpy as np
import pytest

from memoir_fast.reading.matching.lexicon import inquires
from memoir_fast.reading.matching.senses import LENGTH, sense
from memoir_fast.reading.matching.words import WordReader
from tests.support.models import word_tokenizer


@pytest.fixture(scope="module")
def reader(smollm2):
    return WordReader(smollm2[1])


def words(reader, text):
    return reader.words(reader.tokenizer(text, add_special_tokens=False)["input_ids"])


def test_words_sentences_and_questions(reader):
    found = words(reader, "Dr. Ortiz left. What's the price of item SKU-1001, at 3.50 euros?\nThanks")
    asked = ["What", "s", "the", "price", "of", "item", "SKU", "1001", "at", "3.50", "euros"]
    assert found.texts == ["Dr", "Ortiz", "left", *asked, "Thanks"]
    assert found.sentence == [0] * 3 + [1] * 11 + [2] and found.asks == [False, True, False]
    assert [w for w, opens in zip(found.texts, found.opens, strict=True) if opens] == ["Dr", "What", "Thanks"]
    assert all(0 <= a <= b for a, b in zip(found.first, found.last, strict=True)) and found.first == sorted(found.first)


@pytest.mark.parametrize("text", ["東京の人口は？", "naïve café 🦙🦙 ☕", "Ünïcödé ключ", "東京", "x", "", "???"])
def test_any_text_gives_the_same_words_alone_and_behind_another(reader, text):
    alone, behind = words(reader, text), words(reader, f"One. {text}")
    assert behind.texts[1:] == alone.texts  # also where a character is more than one token
    assert not text.isalpha() or "".join(alone.texts) == text  # and whole


def test_the_last_user_message_is_found_in_a_rendered_chat(reader):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who leads Norvane?"},
            {"role": "assistant", "content": "Lena Ortiz"}, {"role": "user", "content": "And who leads Halden Robotics?"}]  # fmt: skip
    text = reader.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    tokens = reader.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert reader.words(tokens, reader.user_span(tokens)).texts == ["And", "who", "leads", "Halden", "Robotics"]
    plain = reader.tokenizer("Who leads Norvane?")["input_ids"]
    assert reader.user_span(plain) == (0, len(plain))


def test_a_tokenizer_without_a_template_is_plain():
    tokenizer = word_tokenizer()
    tokenizer.chat_template = None
    assert WordReader(tokenizer).user_span([5, 6, 7]) == (0, 3)


def test_senses_tell_like_words_from_others():
    def cosine(a: str, b: str) -> float:
        return float(sense(a).astype(float) @ sense(b)) / LENGTH**2

    for a, b, other in (("price", "cost", "river"), ("cook", "chef", "window"), ("founded", "established", "yellow")):
        assert cosine(a, b) > 0.4 > cosine(a, other)
    assert cosine("tables", "table") > 0.8 and not np.any(sense("xqzvw"))


def test_questions_are_known_without_their_mark():
    asked = ["how do you write forty in roman numerals", "nq question who sang the song", "so in which city is it", "where is peru",
             "please can you say who leads it", "is it open on sundays", "when did it begin"]  # fmt: skip
    told = [
        "where she is from people speak",
        "haim ramon writes in",
        "the capital of peru is",
        "when in rome",
        "peru in",
        "island life is",
    ]
    assert all(map(inquires, asked)) and not any(map(inquires, told))
