"""Each rule reads what is stored and nothing else, and the benchmark counts what it reads."""

from __future__ import annotations

import json

import pytest
import torch

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
    if isinstance(asked.rule, routers.Oracle):
        assert asked.kept_out(["w110 w111 w112"])["kept_out"] == 1  # a prompt that is said to be unrelated
        return
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
    assert set(found) == {"zsre", "qaedit"} and 0 <= found["zsre"]["threshold"] < 1e6
    for measured in found.values():
        assert measured["rephrased"] == {"right": 1.0, "wrong": 0.0, "prompts": 2}
        assert measured["unrelated"]["kept_out"] == 1.0
        cuts, right, kept = map(list, zip(*measured["curve"], strict=True))
        assert cuts == sorted(cuts) and right == sorted(right, reverse=True) and kept == sorted(kept)
        assert (right[0], right[-1], kept[-1]) == (1.0, 0.0, 1.0) and any(
            r == k == 1 for r, k in zip(right, kept, strict=True)
        )


def test_a_curve_is_what_each_threshold_would_read():
    """By hand: five rephrasings, of which the third finds a wrong edit and the last none, and four unrelated prompts."""

    class Given(routers.Stored):
        least = cut = 0.5

        def found(self, sequences):
            return sequences

    asked = routing.Asked(Given(), lambda prompt: prompt)
    near, far = [(0, 0.9), (1, 0.5), (0, 0.8), (3, 0.2), (-1, 1.0)], [(0, 0.6), (1, 0.1), (2, 0.2), (-1, 1.0)]
    assert asked.right(near, int.__eq__) == {"right": 0.4, "wrong": 0.2, "prompts": 5}
    assert asked.kept_out(far)["kept_out"] == 0.75
    assert asked.curve(near, int.__eq__, far) == [
        [0.1, 0.6, 0.25], [0.2, 0.6, 0.5], [0.5, 0.4, 0.75], [0.6, 0.2, 0.75], [0.9, 0.2, 1.0], [0.9, 0.0, 1.0]]  # fmt: skip


def test_an_oracle_is_right_where_something_right_is_stored(make):
    asked = make(STORED, ["w150", "w151"])
    if isinstance(asked.rule, routers.Oracle):
        found = asked.right(["w1", "w2", "w3"], lambda i, edit: edit == i)
        assert found == {"right": 2 / 3, "wrong": 0.0, "prompts": 3}


def test_graces_keys_share_the_distance_between_them(make):
    asked = make(STORED, ["w150", "w151"])
    if isinstance(asked.rule, routers.Grace):
        rule = asked.rule
        between = (rule.keys[:2, None] - rule.keys[None, 2:]).norm(dim=-1)
        assert torch.allclose(rule.half, torch.cat([between.min(1).values, between.min().reshape(1)]) / 2, atol=1e-4)
        far = rule.keys.clone()
        far[0] = rule.keys[0] + 0.6 * (rule.keys[2] - rule.keys[0])  # beyond the middle
        rule._last = lambda sequences: far
        assert [edit for edit, score in rule.found([None] * 3) if score > -0.01] == [0, 1]
