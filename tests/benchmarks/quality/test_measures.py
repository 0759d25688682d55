"""What is measured after a stream: facts given again, and why answers are wrong."""

from __future__ import annotations

import pytest

from benchmarks.quality import measures, tasks
from benchmarks.quality.tasks import Row
from tests.support.models import tiny_memoir


def test_a_fact_given_again_is_scored_by_the_latest_target():
    rows = [Row("w100 w101 w102", "w150", "w101 w100"), Row("w110 w111 w112", "w151"), Row("w101 w100", "w152", "w103 w100 w101"),
            Row("w120 w121 w122", "w153"), Row("w120 w121 w122", "w153")]  # fmt: skip
    ((own, late),) = tasks.latest(
        rows
    )  # the third row asks the first one's rephrasing; the last one says the same again
    assert own == rows[0] and late.prompt == rows[0].prompt and late.target == "w152"
    model = tiny_memoir(steps=60)
    model.edit(rows[0].prompt, "w150")
    found = measures.repeated("zsre", model, rows)
    assert found["rows"] == 1 and found["own_reliability"] == 1.0 and found["latest_reliability"] == 0.0
    assert measures.repeated("zsre", model, rows[:2]) == {"rows": 0}


def test_causes_of_wrong_answers_add_up():
    rows = [
        Row("w100 w101 w102", "w150", "w101 w100 w102"),
        Row("w110 w111 w112", "w151", "w111 w110 w112"),
        Row("w120 w121 w122", "w153", "w100 w101 w102"),
    ]
    model = tiny_memoir(steps=60)
    for row in rows[:2]:
        model.edit(row.prompt, row.target)
    model.edit(rows[2].prompt, "w160")  # its own edit is read and answers something else than the row says
    found = measures.causes(model, rows)
    assert found["prompt"] == {"conflict": 0.0, "retrieval": 0.0, "own": pytest.approx(1 / 3), "reads_its_own": 1.0}
    assert found["rephrase"]["retrieval"] >= 1 / 3 - 1e-9  # the third row's rephrasing is the first row's prompt
    missed = 1 - tasks.score("zsre", model, rows, [])["generalization"]
    assert sum(found["rephrase"][key] for key in ("conflict", "retrieval", "own")) == pytest.approx(missed)
