"""Each rule reads what is stored and nothing else, and the benchmark counts what it reads."""

from __future__ import annotations

import json

import pytest

from benchmarks.library import joined_prompts
from benchmarks.quality import routing
from benchmarks.rivals import routers
from benchmarks.rivals.routers import RULES
from tests.support.models import background_texts, tiny_memoir

STORED = [["w100 w101 w102", "w103 w104 w105"], ["w110 w111 w112"]]


@pytest.fixture(params=RULES)
def make(request, monkeypatch):
    monkeypatch.setattr(routers, "load_texts", background_texts)
    model = tiny_memoir(router="mask" if request.param == "mask" else "tokens", threshold=None)
    return lambda stored, targets: routing.Asked(
        RULES[request.param](model, stored, targets), joined_prompts(model.encoder)
    )


def test_stored_wordings_read_their_edit_and_others_none(make):
    asked = make(STORED, ["w150", "w151"])
    assert asked.right(["w100 w101 w102", "w103 w104 w105", "w110 w111 w112"], lambda i, edit: edit == (0, 0, 1)[i]) == {
        "right": 1.0, "wrong": 0.0, "prompts": 3}  # fmt: skip
    assert asked.right(["w100 w101 w102"], lambda i, edit: edit == 1) == {"right": 0.0, "wrong": 1.0, "prompts": 1}
    # To masks of two edits of a random model any prompt may look alike; the others must tell.
    least = 0.0 if isinstance(asked.rule, routers.Masks) else 0.5
    assert least <= asked.kept_out(["w30 w31 w32", "w110 w111 w112"])["kept_out"] <= 0.5


def test_data_sets_are_asked_for_their_rephrasings(make, tmp_path, monkeypatch):
    monkeypatch.setattr(routing, "SETS", {"zsre": 3, "qaedit": 2})
    rows = [{"prompt": f"w1{i}0 w1{i}1 w1{i}2", "subject": f"w1{i}0", "target_new": "w150", "rephrase_prompt": f"w1{i}0 w1{i}1 w1{i}2",
             "locality_prompt": "w30 w31 w32"} for i in range(3)]  # fmt: skip
    for name in routing.SETS:
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = routing.public(make, tmp_path, 2)
    assert set(found) == {"zsre", "qaedit"} and 0 <= found["zsre"]["threshold"] <= 1
    for measured in found.values():
        assert measured["rephrased"] == {"right": 1.0, "wrong": 0.0, "prompts": 2}
        assert measured["unrelated"]["kept_out"] == 1.0
