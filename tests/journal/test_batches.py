"""A batch is made whole or not at all, also one that contradicts itself."""

from __future__ import annotations

import pytest
import torch

from memoir_fast import EditRequest
from memoir_fast.errors import ConflictError, EditError
from tests.support.models import tiny_memoir

BATCH = [
    ("w100 w101", "w150"),
    ("w110 w111", "w151"),
    ("w100 w101", "w152"),
    ("w120 w121", "w153"),
    ("w100 w101", "w154"),
]


def edited(conflict: str, **settings):
    model = tiny_memoir(**settings)
    model.journal.conflict = conflict
    return model


@pytest.mark.parametrize(
    "settings", [{}, {"write": "preconditioned"}, {"weight_decay": 1e-3}], ids=["sgd", "pre", "decay"]
)
def test_a_batch_that_contradicts_itself_is_made_as_if_one_after_the_other(settings):
    together, apart = edited("supersede", **settings), edited("supersede", **settings)
    results = together.edit_many(BATCH, batch_size=5)
    for start, stop in ((0, 2), (2, 4), (4, 5)):  # the groups that can share their steps
        apart.edit_many(BATCH[start:stop], batch_size=5)
    assert [result.id for result in results] == [0, 1, 2, 3, 4]
    assert [result.supersedes for result in results] == [[], [], [0], [], [2]]
    assert (
        together.journal.state.statuses
        == apart.journal.state.statuses
        == {0: "superseded", 1: "active", 2: "superseded", 3: "active", 4: "active"}
    )
    V, norm = apart.memory.V, float(apart.memory.V.abs().max())
    assert torch.allclose(together.memory.V, V, atol=1e-4 * norm) and together.memory.scale == pytest.approx(
        apart.memory.scale
    )
    assert together.ask("w100 w101", max_new_tokens=1) == "w154"
    together.delete(4), apart.delete(4)  # the one before it is read again; on so small a model it need not be learned
    assert together.route("w100 w101")["edit"] == 2
    assert together.ask("w100 w101", max_new_tokens=1) == apart.ask("w100 w101", max_new_tokens=1) != "w154"


def test_a_rejected_batch_makes_nothing():
    model = edited("reject")
    with pytest.raises(ConflictError, match=r"batch contradicts itself.*nothing of it is made"):
        model.edit_many(BATCH, batch_size=5)
    assert len(model.memory) == 0 and not model.memory.V.any() and model.next_id == 0
    with pytest.raises(ConflictError):
        model.edit_many([*BATCH[:2], *BATCH[2:3]], batch_size=2)  # the first batch of it is sound
    assert len(model.memory) == 2


def test_a_batch_whose_second_half_fails_makes_nothing(monkeypatch):
    model = edited("supersede")
    real, calls = model.editor.optimise, []

    def optimise(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise EditError("diverged")
        return real(*args, **kwargs)

    monkeypatch.setattr(model.editor, "optimise", optimise)
    with pytest.raises(EditError):
        model.edit_many(BATCH, batch_size=5)
    assert len(calls) == 2 and len(model.memory) == 0 and not model.memory.V.any() and model.next_id == 0
    monkeypatch.undo()
    assert len(model.edit_many(BATCH, batch_size=5)) == 5


def test_a_decay_of_an_edit_that_is_replaced_at_once_still_counts():
    together, apart = edited("supersede", weight_decay=1e-2), edited("supersede", weight_decay=1e-2)
    pair = [("w100 w101", "w150"), ("w100 w101", "w151")]
    together.edit("w110 w111", "w153"), apart.edit("w110 w111", "w153")
    together.edit_many(pair, batch_size=2), apart.edit_many(pair)
    assert together.memory.scale == pytest.approx(apart.memory.scale)
    assert torch.allclose(together.memory.V, apart.memory.V, atol=1e-3 * float(apart.memory.V.abs().max()))


def test_keys_within_a_batch():
    model = edited("keep")
    facts = [EditRequest("w100 w101", "w150", key="k"), EditRequest("w110 w111", "w151"), EditRequest("w100 w101", "w150", key="k"),
             EditRequest("w100 w101", "w152", key="k"), EditRequest("w110 w111", "w155")]  # fmt: skip
    results = model.edit_many(facts, batch_size=5)
    assert [result.id for result in results] == [0, 1, 0, 2, 3]
    assert [result.existing for result in results] == [False, False, True, False, False]
    assert model.journal.state.statuses == {0: "superseded", 1: "active", 2: "active", 3: "active"}
    again = model.edit_many(facts[3:4], batch_size=2)
    assert again[0].existing and again[0].id == 2 and again[0].steps == results[3].steps
