"""Edits that are tried out leave nothing behind, and a preview says what they would have changed."""

from __future__ import annotations

import pytest
import torch

from memoir_fast.journal.preview import preview
from memoir_fast.model import MemoirModel
from tests.support.models import attached, bits, tiny_model
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
