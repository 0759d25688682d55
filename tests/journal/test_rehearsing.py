"""Edits that are tried out leave nothing behind, and a preview says what they would have changed."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from memoir_fast import BackgroundTexts, StoreError
from memoir_fast.journal.preview import preview
from memoir_fast.journal.volatile import VolatileJournal
from memoir_fast.model import MemoirModel
from memoir_fast.store import Store
from tests.support.models import attached, background_texts, bits, tiny_model
from tests.support.stores import contents


@pytest.fixture(params=["volatile", "writer", "reader"])
def model(request, tmp_path):
    base = tiny_model("llama")
    made = attached(base, steps=40)
    made.journal.conflict = "supersede"
    if request.param != "volatile":
        made.create_store(str(tmp_path / "s"), conflict="supersede")
    made.edit("w100 w101 w102", "w150", tags=["a"]), made.edit("w110 w111 w112", "w151")
    if request.param == "reader":
        made.detach(), made.close()
        made = MemoirModel.open(str(tmp_path / "s"), base, made.tokenizer, read_only=True)
    with made:
        yield made


def _all(model) -> tuple:
    memory, journal = model.memory, model.journal
    C = None if memory.C is None else bits(memory.C).clone()
    kept = {name: dict(value) for name, value in journal.state.by_edit().items() if name != "_disabled"}
    return (
        bits(memory.V).clone(),
        C,
        memory.index.ids,
        memory.index.signatures().tobytes(),
        kept,
        journal.state.seq,
        id(journal),
    )


def _same(one: tuple, other: tuple) -> bool:
    tensors = all((a is None and b is None) or torch.equal(a, b) for a, b in zip(one[:2], other[:2], strict=True))
    return tensors and one[2:] == other[2:]


def test_nothing_is_left_behind(model):
    before, answer = _all(model), model.ask("w100 w101 w102", max_new_tokens=2)
    with model.rehearsal():
        made = model.edit("w100 w101 w102", "w160")
        assert made.id == 2 and made.supersedes == [0] and sorted(model.edits) == [1, 2]
        assert model.ask("w100 w101 w102", max_new_tokens=1).strip() == "w160"
        model.delete(1), model.tag(2, ["z"]), model.edit("w120 w121", "w152")
    assert _same(_all(model), before) and model.ask("w100 w101 w102", max_new_tokens=2) == answer
    assert model.route("w100 w101 w102")["edit"] == 0 and model.route("w120 w121")["edit"] is None


def test_an_error_inside_leaves_nothing_either(model):
    before = _all(model)
    with pytest.raises(KeyError), model.rehearsal():
        model.edit("w100 w101 w102", "w160")
        raise KeyError("from inside")
    assert _same(_all(model), before)


def test_edits_after_a_rehearsal_are_as_without_one(tmp_path):
    rows = []
    for rehearsed in (False, True):
        torch.manual_seed(0)
        with attached(tiny_model("llama"), steps=10) as model:
            model.create_store(str(tmp_path / f"s{rehearsed}"), conflict="supersede")
            model.edit("w100 w101 w102", "w150")
            if rehearsed:
                with model.rehearsal():
                    model.edit("w100 w101 w102", "w160"), model.delete(1)
            model.edit("w100 w101 w102", "w155")
            assert model.store.verify()["problems"] == []
            rows.append((bits(model.memory.V).clone(), contents(model.store)[0]))
            model.close()
    assert torch.equal(rows[0][0], rows[1][0]) and rows[0][1] == rows[1][1]


def test_a_preview_says_what_changes(model):
    questions = ["w100 w101 w102", "w110 w111 w112", "w120 w121", "w30 w31 w32"]
    before = _all(model)

    def change() -> None:
        model.edit("w120 w121", "w152"), model.delete(1), model.edit("w100 w101 w102", "w160")

    told = preview(model, questions, change, max_new_tokens=1)
    assert _same(_all(model), before)
    assert [(one.before.edit, one.after.edit, one.changed) for one in told] == [
        (0, 3, True),
        (1, None, True),
        (None, 2, True),
        (None, None, False),
    ]
    assert [one.after.answer.strip() for one in told[:1]] == ["w160"] and told[2].after.answer.strip() == "w152"
    with model.disabled():
        base = model.ask(questions, max_new_tokens=1)
    assert told[1].after.answer == base[1] and told[2].before.answer == base[2] and told[3].after.answer == ""
    assert told[0].row()["before"]["answer"] == model.ask(questions[0], max_new_tokens=1)


def _in_thread(call) -> tuple[threading.Thread, list]:
    """A thread that does something, begun, and what comes of it."""
    came: list = []

    def run() -> None:
        try:
            came.append(call())
        except BaseException as error:
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, came


@pytest.mark.parametrize("kept", ["volatile", "writer"])
def test_whoever_else_changes_the_memory_waits_and_nothing_of_it_is_lost(kept, tmp_path):
    with attached(tiny_model("llama"), steps=10) as model:
        if kept == "writer":
            model.create_store(str(tmp_path / "s"))
        model.edit("w100 w101 w102", "w150"), model.edit("w110 w111 w112", "w151")
        with model.rehearsal():
            model.edit("w130 w131", "w153")
            rehearsed = model.journal
            calls = (
                lambda: model.edit("w120 w121", "w152").id,
                lambda: model.delete(0),
                lambda: model.tag(1, ["b"]),
                lambda: rehearsed.delete(1),
            )
            begun = [_in_thread(call) for call in calls]
            time.sleep(1)
            assert all(thread.is_alive() for thread, _ in begun) and sorted(model.edits) == [0, 1, 2]
        for thread, _ in begun:
            thread.join(60)
        came = [found for _, found in begun]
        assert came[:3] == [[2], [None], [None]]
        assert isinstance(came[3][0], StoreError) and "rehearsal is over" in str(came[3][0])
        assert sorted(model.edits) == [1, 2] and model.edits[2]["prompt"] == "w120 w121"
        assert model.edits[1]["tags"] == ["b"]
        if kept == "writer":
            assert model.store.verify()["problems"] == []


def test_a_rollback_inside_knows_what_was_before(model):
    before = _all(model)
    with model.rehearsal():
        third = model.edit("w120 w121", "w152").id
        with model.rehearsal():
            model.edit("w130 w131", "w153")
            assert model.rollback(1) == [2, 3] and sorted(model.edits) == [0, 1]
        assert model.rollback(third) == [] and model.rollback(0) == [1, 2] and sorted(model.edits) == [0]
        assert [entry.seq for entry in model.journal.history(after=2)] == [3, 4]
    assert _same(_all(model), before)


def test_a_reader_rolls_back_to_what_it_has_read(tmp_path):
    base = tiny_model("llama")
    with attached(base, steps=10) as model:
        model.create_store(str(tmp_path / "s"))
        model.edit("w100 w101 w102", "w150"), model.edit("w110 w111 w112", "w151")
        with Store(tmp_path / "s") as store:
            state = store.memory_state()
            model.edit("w120 w121", "w152")
            rehearsed = VolatileJournal.before(state.journal)
            assert rehearsed.rollback(0) == [1] and [entry.seq for entry in rehearsed.history()] == [1, 2, 3]


def test_tags_of_a_rehearsal_choose_no_edit_later(model):
    with model.rehearsal():
        model.tag(0, ["z"]), model.tag(1, ["a"])
        with model.only(["a"]):
            assert model.route("w110 w111 w112")["edit"] == 1 and model.route("w100 w101 w102")["edit"] is None
    with model.only(["a"]):
        assert model.route("w110 w111 w112")["edit"] is None and model.route("w100 w101 w102")["edit"] == 0


@pytest.mark.parametrize("router", ["tokens", "mask"])
def test_calibrating_inside_is_forgotten_too(router):
    with attached(tiny_model("llama"), steps=10, router=router, threshold=0.7) as model:
        model.edit("w100 w101 w102", "w150")
        for fixed in (0.7, None):
            if fixed is None:
                model.calibrate(0.1)
            before = (model.threshold.fixed, model.threshold.rate, model.threshold.median, model.config)
            largest, kept = model.threshold.largest.copy(), (model.kept.calibration, model.kept.words)
            with model.rehearsal():
                model.calibrate(0.3, background=BackgroundTexts(background_texts().records[::-1]))
                assert model.config != before[-1]
                assert model.kept.calibration is not kept[0] or model.kept.words is not kept[1]
            assert (model.threshold.fixed, model.threshold.rate, model.threshold.median, model.config) == before
            assert np.array_equal(model.threshold.largest, largest)
            assert model.kept.calibration is kept[0] and model.kept.words is kept[1]
