"""What the benchmark of routing counts, with a rule that reads an edit for its very prompt."""

from __future__ import annotations

import json

from benchmarks.quality import routing
from benchmarks.rivals.routers import Stored


class Verbatim(Stored):
    least = cut = 0.5

    def __init__(self, stored, targets):
        self.prompts = [routing.plain(wordings[0]) for wordings in stored]

    def found(self, sequences):
        asked = [routing.plain(text) for text in sequences]
        return [(self.prompts.index(text), 1.0) if text in self.prompts else (-1, 0.0) for text in asked]


def test_a_stored_question_is_not_counted_as_unrelated(tmp_path):
    facts = [
        {
            "prompt": "Who leads Norvane?",
            "rephrase_prompt": "who leads NORVANE",
            "locality_prompt": "Who leads Tellmark?",
        },
        {
            "prompt": "Where is Tellmark?",
            "rephrase_prompt": "Tellmark's place?",
            "locality_prompt": "who leads Norvane",
        },
    ]
    for name in routing.SETS:
        lines = [json.dumps(fact | {"subject": fact["prompt"], "target_new": "x"}) for fact in facts]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    found = routing.public(lambda *facts: routing.Asked(Verbatim(*facts), str), tmp_path, 2)
    for of_set in found.values():
        assert of_set["rephrased"] == {"right": 0.5, "wrong": 0.0, "prompts": 2}
        assert of_set["unrelated"] == {"kept_out": 1.0, "prompts": 1}
