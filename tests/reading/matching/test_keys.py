"""The look-up among stored wordings: what it finds depends on what is stored, not on how it came there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoir_fast.reading.matching.keys import Keys
from memoir_fast.reading.matching.matcher import Matcher, Wording
from memoir_fast.reading.word_threshold import LEAST, WordThreshold
from tests.support.words import read, texts, tiny_matcher, wordings

NOTHING = np.empty(0)


@pytest.fixture(scope="module")
def matcher() -> Matcher:
    return tiny_matcher()


def keys_of(matcher: Matcher, stored: dict, edits=None) -> Keys:
    keys = Keys(matcher, stored.__getitem__)
    keys.added(sorted(stored) if edits is None else edits, NOTHING)
    return keys


def told(keys: Keys, query, admitted=None) -> list:
    return [(m.edit, m.wording, m.score, m.kept_out) for m in keys.ranked(query, admitted)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 39)), max_size=60), st.integers(0, 1000))
def test_a_history_of_changes_leaves_what_is_stored(matcher, changes, seed):
    stored = {edit: wordings(matcher, text, text + " a") for edit, text in enumerate(texts(40, seed))}
    keys, present = Keys(matcher, stored.__getitem__), set()
    for add, edit in changes:
        if add and edit not in present:
            keys.added([edit], NOTHING)
            present.add(edit)
        elif not add and edit in present:
            keys.removed([edit])
            present.remove(edit)
    fresh = keys_of(matcher, stored, sorted(present))
    assert len(keys) == len(present)
    for text in texts(6, seed):
        _, query = read(matcher, text)
        assert told(keys, query) == told(fresh, query)
        some = sorted(present)[::2]
        assert told(keys, query, some) == told(keys_of(matcher, stored, some), query)


def test_edits_that_are_compared_together_have_the_scores_that_they_have_alone(matcher, monkeypatch):
    asked = texts(60, 3)
    stored = {
        edit: wordings(
            matcher,
            text,
            text + " a",
            kept_out=(asked[edit - 1],) * (edit % 3 == 0),
            subject=asked[edit].split()[0] * (edit % 4 == 0),
        )
        for edit, text in enumerate(asked)
    }
    keys = keys_of(matcher, stored)
    keys.removed([7, 8])
    monkeypatch.setattr("memoir_fast.reading.matching.keys.AT_ONCE", 16)
    edits = [edit for edit in range(60) if edit != 7]
    for text in [*asked[:4], *texts(4, 4)]:
        query = read(matcher, text)[1]
        assert keys.scores(query, edits) == [keys.score(query, edit) for edit in edits]


def test_rows_are_given_back(matcher):
    stored = {edit: wordings(matcher, text) for edit, text in enumerate(texts(400))}
    keys = keys_of(matcher, stored)
    keys.removed(range(300))
    assert len(keys) == 100 and len(keys.store) < 200
    _, query = read(matcher, texts(400)[350])
    assert keys.ranked(query)[0].edit == 350 and keys.ranked(query)[0].score > 0.8


def test_among_equals_the_newest_and_another_wording_counts(matcher):
    stored = {
        3: wordings(matcher, "w1 w2 w3"),
        9: wordings(matcher, "w7 w8", "w1 w2 w3"),
        5: wordings(matcher, "w40 w41 w42"),
    }
    found = keys_of(matcher, stored).ranked(read(matcher, "w1 w2 w3")[1])
    assert [(m.edit, m.wording) for m in found[:2]] == [(9, 1), (3, 0)] and found[0].score == found[1].score


def test_not_prompts_and_subject_keep_queries_out(matcher):
    plain = {0: wordings(matcher, "w1 w2 w3 a w4")}
    guarded = {0: wordings(matcher, "w1 w2 w3 a w4", kept_out=("w1 w2 w3 a",), subject="w4")}
    keys = keys_of(matcher, guarded)
    near, own = read(matcher, "w1 w2 w3 a")[1], read(matcher, "w1 w2 w3 a w4")[1]
    assert keys_of(matcher, plain).ranked(near)[0].score > 0
    assert keys.ranked(near)[0].score == 0 and keys.ranked(near)[0].kept_out == "not_prompts"
    assert keys.score(near, 0, guarded=False) > 0 == keys.score(near, 0)
    without = read(matcher, "w1 w2 w3 a b")[1]
    assert keys.ranked(without)[0].kept_out in ("subject", "not_prompts")
    assert keys.ranked(own)[0].score > 0.8 and keys.ranked(own)[0].kept_out == ""


def test_packed_wordings_come_back_and_damage_is_refused(matcher):
    wording, code = read(matcher, "w1 w2 w3")
    again = Wording.unpacked(wording.packed(), matcher.bits)
    assert again.tokens == wording.tokens and np.array_equal(again.bits, wording.bits)
    assert np.array_equal(matcher.code(again).code, code.code) and matcher.code(again).text == code.text
    for damaged in ("", "???", wording.packed()[:-8], wording.packed() + "AAAA"):
        with pytest.raises(ValueError, match="stored wording"):
            Wording.unpacked(damaged, matcher.bits)


def test_the_matcher_comes_back_from_its_tensors(matcher):
    again = Matcher.from_state(matcher.state(), matcher.reader.tokenizer)
    stored = {edit: wordings(matcher, text) for edit, text in enumerate(texts(20))}
    _, query = read(again, texts(20)[3])
    assert told(keys_of(again, stored), query) == told(keys_of(matcher, stored), read(matcher, texts(20)[3])[1])
    with pytest.raises(ValueError, match="lack"):
        Matcher.from_state({k: v for k, v in matcher.state().items() if k != "depth"}, matcher.reader.tokenizer)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 29)), max_size=40), st.integers(0, 100))
def test_the_threshold_follows_changes_as_if_counted_anew(matcher, changes, seed):
    made = texts(60, seed)
    stored = {edit: wordings(matcher, text) for edit, text in enumerate(made[:30])}
    # Near misses of the stored texts, and other texts.
    unrelated = [read(matcher, text + " w119 w118")[0] for text in made[:20]] + [read(matcher, t)[0] for t in made[30:]]
    keys, present = Keys(matcher, stored.__getitem__), set()
    threshold = WordThreshold(keys, None, unrelated, 0.05)
    for add, edit in changes:
        if add != (edit in present):
            for listener in (keys, threshold):
                listener.added([edit], NOTHING) if add else listener.removed([edit])
            present ^= {edit}
    fresh = WordThreshold(keys_of(matcher, stored, sorted(present)), None, unrelated, 0.05)
    # Prompts that share no word that matters are not compared when an edit comes: their scores are next to nothing.
    assert np.allclose(threshold.largest, fresh.largest, atol=0.05) and threshold.value == fresh.value >= LEAST
    assert threshold.false_activation_rate() <= 0.05


def test_a_fixed_threshold_stays_and_a_stored_question_does_not_count_as_unrelated(matcher):
    stored = {0: wordings(matcher, "w1 w2 w3")}
    unrelated = [read(matcher, text)[0] for text in ["w1 w2 w3", *texts(40, 3)]]
    keys = keys_of(matcher, stored)
    assert WordThreshold(keys, 0.7, unrelated, 0.005).value == 0.7
    found = WordThreshold(keys, None, unrelated, 0.005)
    assert found.value < 0.9 and found.left_out == [0] and found.false_activation_rate() == 0
    assert found.of([-1, 0]).tolist() == [2.0, found.value]
