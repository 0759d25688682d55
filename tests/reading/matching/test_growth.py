"""Reading a prompt takes time in proportion to its length, whatever it says: it runs where other requests wait."""

from __future__ import annotations

import random
import re
import time

import numpy as np
import pytest

from memoir_fast.reading.matching.demands import MONEY, demands
from memoir_fast.reading.matching.lexicon import answer_types, asked_words
from memoir_fast.reading.matching.prompt_codes import by_sentence, heads
from memoir_fast.reading.matching.words import split


def _words(text):
    return split(text, range(len(text)))


def _grouped(text):
    words = _words(text)
    return heads(words.sentence, by_sentence(words.texts, words.sentence))


@pytest.mark.parametrize(
    ("read", "piece", "end"),
    [
        (_words, ".", "a"),
        (_words, "!", "a"),
        (_words, ".)", "a"),
        (_words, "a. ", ""),
        (_words, "a's", ""),
        (_words, "1", "é"),
        (_grouped, "a? ", ""),
        (demands.__wrapped__, "how much ", ""),
        (demands.__wrapped__, "what is the ", ""),
        (asked_words.__wrapped__, "how a ", ""),
        (asked_words.__wrapped__, "what a-what ", ""),
        (asked_words.__wrapped__, "name the a a a of ", ""),
        (answer_types.__wrapped__, "what kind of ", ""),
    ],
)
def test_time_grows_with_the_text(read, piece, end):
    def seconds(length):
        text, took = piece * (length // len(piece)) + end, []
        for _ in range(3):
            start = time.perf_counter()
            read(text)
            took.append(time.perf_counter() - start)
        return min(took)

    assert seconds(64_000) < 14 * seconds(8_000) + 0.05  # eightfold; the square is sixty-fourfold


def test_marks_that_end_sentences_are_found_as_before():
    former = re.compile(r"[.!]+[\"'”’)]*(?=\s|$)|[?？！。]+|[:;](?=\s)|[\r\n]+|\ufdd0|\s[-–—]\s")
    chosen = random.Random(3)
    for _ in range(3000):
        text = "".join(chosen.choices([*'. ! " ) ? : - \n a b1 Z ’ ？'.split(" "), " ", "x"], k=24))
        text = "w" + text + "w"
        wanted = [match.start() + 1 for match in former.finditer(text)]
        places = _words(text)
        sentences = [sum(end <= at for end in wanted) for at in places.first]
        numbers = {value: number for number, value in enumerate(dict.fromkeys(sentences))}
        kept = [text[end - 1] == "." and _abbreviates(text[: end - 1]) and end < len(text) for end in wanted]
        if not any(kept):
            assert places.sentence == [numbers[value] for value in sentences], text


def _abbreviates(text):
    word = re.search(r"(\w+)$", text[-12:])
    return word is not None and len(word[1]) == 1


def test_the_price_may_stand_anywhere_behind_the_question():
    chosen = random.Random(5)
    former = re.compile(r"\bhow much\b.*\b(?:cost|fee)\b")
    for _ in range(2000):
        text = " ".join(chosen.choices(["how", "much", "how much", "cost", "fees", "fee", "a"], k=7))
        wanted = former.search(text) is not None or re.search(r"\bhow much\b.*\bfees\b", text)
        assert bool(demands(text) & MONEY) == bool(wanted), text


def test_a_prompt_may_have_very_many_sentences():
    sentence = list(range(40_000))
    assert by_sentence(["a"] * 40_000, sentence) == ["a"] * 40_000
    assert by_sentence(["b", "c", "d"], [0, 0, 1]) == ["b c", "d"] and by_sentence([], []) == []
    assert np.array_equal(heads([0, 0, 0, 0, 1, 1, 1], ["what time is it", "the boss of"]), [0, 1, 0, 0, 0, 1, 0])
