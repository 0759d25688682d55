"""Codes, numbers and addresses: the facts are whole, and answers are counted rightly."""

from __future__ import annotations

from pathlib import Path

from benchmarks.quality import values
from benchmarks.quality.routing import read_lines


def test_every_fact_has_its_rewordings_and_none_tells_the_answer():
    facts = read_lines(Path(values.__file__).with_name("values.jsonl"))
    assert len(facts) == 66 and len({fact["prompt"] for fact in facts}) == 66
    for fact in facts:
        asked = [fact["prompt"], *fact["rewordings"]]
        assert len(set(asked)) == 4 and not any(fact["target"] in text for text in asked), fact


def test_only_answers_that_read_their_edit_count(monkeypatch):
    class Model:
        encoder = type("E", (), {"pair": lambda s, p, t: type("S", (), {"tokens": [0]}), "prompt": lambda s, p: type("S", (), {"tokens": []})})()  # fmt: skip

        def route(self, text):
            return {"edit": {"a": 0, "b": 0, "c": 1, "d": None}[text]}

    facts = [{"kind": "digits", "prompt": "a", "target": "7402", "rewordings": ["b", "c", "d"]}]
    given = {"a": "7402", "b": "7402 7402", "c": "7402", "d": "7402"}
    monkeypatch.setattr(values.metrics, "whole_answers", lambda model, texts, most: [given[text] for text in texts])
    found = values.asked(Model(), facts, [0])
    assert found["all"] == found["digits"]
    assert found["all"] == {
        "prompt": {"asked": 1, "read": 1, "exact": 1},
        "rewordings": {"asked": 3, "read": 1, "exact": 0},
    }
