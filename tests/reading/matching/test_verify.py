"""The pairs' features against plain formulas, and the quick way to the best edit against the ranking."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoir_fast import MemoirModel
from memoir_fast.reading.matching.key_store import KeyStore
from memoir_fast.reading.matching.keys import Keys
from memoir_fast.reading.matching.verify import FEATURES, features
from memoir_fast.reading.probe import read_prompts
from memoir_fast.reading.word_threshold import LEAST
from tests.support import plain_pairs
from tests.support.data import facts_file
from tests.support.words import activations, read, texts, tiny_matcher, wordings


@pytest.fixture(scope="module")
def matcher():
    return tiny_matcher()


SETS = ("zsre", "counterfact", "qaedit", "wikibigedit")
STORED, ASKED = 20, 12


@pytest.fixture(scope="module")
def real(smollm2):
    """The matcher of the real model; what some hundred stored prompts and queries say, by data set."""
    with MemoirModel(*smollm2) as model:
        matcher, found = model.router.words.keys.matcher, {}
        for name in SETS:
            lines = facts_file(f"{name}.jsonl").read_text("utf-8").splitlines()[:STORED]
            facts = [json.loads(line) for line in lines]
            prompts = [fact["prompt"] for fact in facts]
            asked = [fact[way] for fact in facts[:ASKED] for way in ("rephrase_prompt", "locality_prompt")]
            asked += [" ".join([*asked[:9], "Please be brief.", prompts[2]]), f"{prompts[0]} Thank you!", prompts[1]]
            sequences = [model.encoder.prompt(text) for text in prompts + asked]
            read = read_prompts(model.model, model.router, matcher, sequences, 16)
            found[name] = read[: len(prompts)], read[len(prompts) :]
    return matcher, found


@pytest.mark.parametrize("name", SETS)
def test_real_prompts_score_as_by_the_plain_formulas(real, name):
    matcher, found = real
    stored, asked = ([code for _, code in some] for some in found[name])
    table, rows = KeyStore(stored), np.arange(len(stored))
    decided = 0
    for query in asked:
        wanted = plain_pairs.probabilities(query, stored, matcher.classifier)
        scores = matcher.probabilities(query, table, rows)
        assert np.abs(scores - wanted).max() <= 1e-6
        assert wanted[scores.argmax()] >= wanted.max() - 1e-6
        decided += wanted.max() > 0.5
    assert ASKED // 2 < decided < len(asked)  # rephrasings ask for a stored prompt, most of the others do not


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_features_of_any_texts_are_those_of_the_plain_formulas(matcher, seed):
    stored = [read(matcher, text)[1] for text in texts(9, seed)]
    query = read(matcher, texts(1, seed + 1)[0])[1]
    found = features(query, KeyStore(stored), np.arange(9))
    wanted = plain_pairs.compared(query, stored)
    for number, name in enumerate(FEATURES):
        assert np.allclose(found[:, number], np.asarray(wanted[name], np.float32), atol=2e-6), name


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_the_best_edit_is_the_first_of_the_ranking(matcher, seed):
    made = texts(60, seed)
    stored = {edit: wordings(matcher, text) for edit, text in enumerate(made[:20])}
    stored |= {edit: wordings(matcher, made[edit], made[edit - 20]) for edit in range(20, 30)}
    stored |= {edit: wordings(matcher, made[edit], kept_out=(made[edit - 30],)) for edit in range(30, 35)}
    stored |= {edit: wordings(matcher, made[edit - 35], subject=made[edit]) for edit in range(35, 40)}
    keys = Keys(matcher, stored.__getitem__)
    keys.added(stored, np.empty(0))
    for text in [*made[:6], *made[20:22], *made[30:33], *(text + " w5" for text in made[36:39]), *made[55:]]:
        query = read(matcher, text)[1]
        assert keys.best(query) == keys.ranked(query)[0]
        assert keys.best(query, range(0, 40, 3)) == keys.ranked(query, range(0, 40, 3))[0]
    assert keys.best(read(matcher, "</s>")[1]) is None


def test_several_prompts_read_together_say_what_each_says_alone(matcher):
    prompts = []
    for text in [*texts(5), ""]:
        tokens = [1, *matcher.reader.tokenizer(text)["input_ids"]]
        prompts.append((tokens, activations(tokens), None))
    for one, (wording, code) in zip(prompts, matcher.read_all(prompts), strict=True):
        alone, same = matcher.read(*one)
        assert alone.tokens == wording.tokens and np.array_equal(alone.bits, wording.bits) and code.text == same.text


def scores_of(real, smollm2, pairs):
    """How likely each query asks for its stored prompt, by the shipped network."""
    matcher, _ = real
    with MemoirModel(*smollm2) as model:
        sequences = [model.encoder.prompt(text) for pair in pairs for text in pair]
        codes = [code for _, code in read_prompts(model.model, model.router, matcher, sequences, 16)]
    return [
        matcher.probabilities(query, KeyStore([key]), np.array([0]))[0]
        for key, query in zip(codes[::2], codes[1::2], strict=True)
    ]


def test_a_word_of_a_name_in_another_sense_does_not_ask(real, smollm2):
    pairs = [
        ("Who manages Chestnut Records?", "where were chestnuts first planted"),
        ("Who runs Marble Studios?", "what is marble made of"),
        ("Who directed Silent Harbour?", "the harbour of the city is called"),
        ("Who leads the Falcon team?", "how fast does a falcon fly"),
    ]
    assert max(scores_of(real, smollm2, pairs)) < 0.3
    shorter = [
        ("Who is the head of Norvane Robotics?", "who leads norvane"),
        ("Who is Madonna?", "tell me who Madonna is"),
    ]
    assert min(scores_of(real, smollm2, shorter)) > 0.8


def test_a_bare_name_is_asked_for_by_that_name_alone(real, smollm2):
    more = [("Lisbon, in", "What currency is used in Lisbon?"), ("Peru, in", "which language do people in Peru speak")]
    assert max(scores_of(real, smollm2, more)) == 0
    assert min(scores_of(real, smollm2, [("Peru, in", "Peru is in"), ("Peru is located in", "where is Peru")])) > LEAST
