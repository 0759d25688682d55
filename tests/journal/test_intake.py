"""Many facts: each is made once, however often its file is given; what is skipped or fails is told."""

from __future__ import annotations

import pytest

from memoir_fast import EditRequest
from memoir_fast.journal.intake import Intake, Statement, take_in
from tests.support.models import attached, tiny_model


@pytest.fixture
def model():
    with attached(tiny_model("llama"), steps=1) as made:
        made.journal.conflict = "supersede"
        yield made


def fact(number: int, target: str = "w150", key: str = "", **about) -> Statement:
    request = EditRequest(f"w{100 + number} w{120 + number}", target, key=key, **about)
    return Statement(request, "ann", ("a",), {"n": number}, f"line {number}")


def made(model, statements, **options) -> list[tuple[str, int | None]]:
    return [(one.outcome, one.edit) for one in take_in(model, model.journal, statements, **options)]


def test_notes_are_kept_and_the_second_time_nothing_is_made(model):
    statements = [fact(0), fact(1, key="k"), fact(2, rephrasings=("w140 w141",), not_prompts=("w142",), subject="w102")]
    assert made(model, statements) == [("made", 0), ("made", 1), ("made", 2)]
    row = model.edits[2]
    assert (row["author"], row["tags"], row["metadata"]) == ("ann", ["a"], {"n": 2})
    assert (row["rephrasings"], row["not_prompts"], row["subject"]) == (["w140 w141"], ["w142"], "w102")
    seq = model.journal.state.seq
    assert made(model, statements) == [("stored", 0), ("stored", 1), ("stored", 2)] and model.journal.state.seq == seq


def test_an_interrupted_call_is_continued_by_the_same(model):
    statements = [fact(number) for number in range(4)]
    begun = take_in(model, model.journal, statements)
    next(begun), next(begun)
    begun.close()
    assert made(model, statements) == [("stored", 0), ("stored", 1), ("made", 2), ("made", 3)]


def test_one_fact_twice_in_a_file_is_one_edit(model):
    assert made(model, [fact(0), fact(0)]) == [("made", 0), ("stored", 0)]


def test_a_file_that_contradicts_itself_ends_the_same_every_time(model):
    statements = [fact(0), fact(0, "w151")]
    assert made(model, statements) == [("made", 0), ("made", 1)]
    assert made(model, statements) == [("gone", 0), ("stored", 1)] and list(model.edits) == [1]
    keyed = [fact(3, key="k"), fact(3, "w151", key="k"), fact(4, key="k")]
    assert made(model, keyed) == [("replaced", None), ("replaced", None), ("made", 2)]
    assert made(model, keyed) == [("replaced", None), ("replaced", None), ("stored", 2)]


def test_a_changed_line_with_a_key_takes_the_old_ones_place_and_may_change_back(model):
    assert made(model, [fact(0, key="k")]) == [("made", 0)]
    assert made(model, [fact(0, "w151", key="k")]) == [("made", 1)] and list(model.edits) == [1]
    assert made(model, [fact(0, key="k")]) == [("made", 2)] and list(model.edits) == [2]


@pytest.mark.parametrize("key", ["", "k"])
def test_what_people_took_back_stays_back_unless_asked(model, key):
    assert made(model, [fact(0, key=key)]) == [("made", 0)]
    model.disable(0)
    [told] = take_in(model, model.journal, [fact(0, key=key)])
    assert (told.outcome, told.note) == ("stored", "it is disabled")
    model.delete(0)
    [told] = take_in(model, model.journal, [fact(0, key=key)])
    assert told.outcome == "gone" and told.note == "edit 0 was made of it and is deleted" and told.took
    assert made(model, [fact(0, key=key)], again=True) == [("made", 1)] and list(model.edits) == [1]
    assert made(model, [fact(0, key=key)], again=True) == [("stored", 1)]


def test_what_took_its_place_is_named(model):
    made(model, [fact(0)])
    model.edit("w100 w120", "w155")
    [told] = take_in(model, model.journal, [fact(0)])
    assert told.note == "edit 0 was made of it and is superseded by edit 1"


def test_other_notes_of_a_stored_fact_are_told(model):
    made(model, [fact(0)])
    [told] = take_in(model, model.journal, [Statement(fact(0).request, "bob", ("b",), {"n": 0}, "line 1")])
    assert (told.outcome, told.note) == ("stored", "its tags and author differ from what is stored, which stays")


def test_a_failing_statement_stops_with_its_place_or_is_told_of(model):
    long = Statement(EditRequest("w100 " * 300, "w150"), where="line 2")
    statements = [fact(0), long, Statement(None, where="line 3", error="prompt is missing"), fact(1)]
    with pytest.raises(ValueError, match="line 2: ") as caught:
        made(model, statements)
    assert list(model.edits) == [0]
    told = list(take_in(model, model.journal, statements, continue_on_error=True))
    assert [one.outcome for one in told] == ["stored", "failed", "failed", "made"]
    assert told[1].note and told[1].note in str(caught.value) and told[2].note == "prompt is missing"
    assert [one.took for one in told] == [True, False, False, True] and told[2].row()["took"] is False


def test_an_edit_that_does_not_answer_did_not_take(model):
    [told] = take_in(model, model.journal, [fact(0, "w150 w161 w155 w170")], verify=True)
    assert told.outcome == "made" and not told.took and told.row()["answers"]


def test_a_bug_is_no_lines_fault(model, monkeypatch):
    monkeypatch.setattr(type(model.writer), "make", lambda *_: int("no number"))
    with pytest.raises(ValueError, match="invalid literal"):
        made(model, [fact(0)], continue_on_error=True)


def test_edits_of_a_memory_folder_are_known_too(model, tmp_path):
    made(model, [fact(0), fact(1)])
    model.delete(0)
    model.save_pretrained(str(tmp_path / "m"))
    model.detach()
    with type(model).load(str(tmp_path / "m"), model.model, model.tokenizer) as loaded:
        intake = Intake(loaded.journal.state)
        assert intake.met(fact(1).request) == 1 and intake.met(fact(0).request) is None
