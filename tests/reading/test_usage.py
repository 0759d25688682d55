"""How often prompts read each edit, and which nearly do."""

from __future__ import annotations

import pytest

from memoir_fast.reading.usage import NEAR, usage
from tests.support.models import tiny_memoir

FACTS = [("w100 w101 w102 w103", "w150"), ("w110 w111 w112", "w151"), ("w120 w121 w122 w123", "w152")]


@pytest.mark.parametrize("router", ["tokens", "mask"])
def test_what_prompts_read_is_what_they_are_routed_to(router):
    model = tiny_memoir("llama", router=router, threshold=None, steps=2)
    for fact in FACTS:
        model.edit(*fact)
    asked = [FACTS[0][0]] * 3 + [
        FACTS[1][0],
        "w30 w31 w32",
        "w40 w41 " + FACTS[1][0],
        "w100 w101 w102",
        "w110 w90 w91 w92",
    ]
    found, routes = model.usage(asked), model.route(asked)
    reads = [route["edit"] for route in routes]
    assert {edit: one["reads"] for edit, one in found["edits"].items() if one["reads"]} == {edit: reads.count(edit) for edit in set(reads) - {None}}  # fmt: skip
    assert found["never"] == sorted(set(range(3)) - set(reads)) and 2 in found["never"]
    assert next(iter(found["edits"])) == 0 and found["edits"][0]["reads"] >= 3
    nearly = [
        n for n, route in enumerate(routes) if route["edit"] is None and route["score"] >= NEAR * route["threshold"]
    ]
    assert sorted(one["prompt"] for one in found["nearly"]) == nearly
    assert sum(one["nearly_read"] for one in found["edits"].values()) == len(nearly)
    assert model.usage([]) == {"edits": {}, "never": [0, 1, 2], "nearly": []}


def _route(edit, score, threshold, *candidates):
    return {"edit": edit, "score": score, "threshold": threshold, "candidates": list(candidates)}


def test_an_edit_that_was_kept_out_was_not_nearly_read():
    kept, other = {"edit": 1, "score": 0.9, "kept_out": "subject"}, {"edit": 2, "score": 0.45, "kept_out": ""}
    routes = [
        _route(None, 0.45, 0.5, kept, other),
        _route(None, 0.0, 0.5, kept),
        _route(None, 0.0, 0.5),
        _route(None, 0.42, 0.5, other),
    ]
    found = usage(routes, [1, 2])
    assert found["edits"] == {2: {"reads": 0, "nearly_read": 2}} and found["never"] == [1, 2]
    assert [(one["prompt"], one["edit"], one["score"]) for one in found["nearly"]] == [(0, 2, 0.45), (3, 2, 0.42)]
