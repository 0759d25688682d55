"""What users of a stream see: counted rightly, on a tiny model and on answers that are known."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import rows
from benchmarks.quality import chat, measures
from benchmarks.quality.tasks import Row
from benchmarks.results_page import chat as page
from tests.benchmarks.support import tiny_files


def test_a_stream_ends_in_a_row_and_a_section(tmp_path, monkeypatch):
    monkeypatch.setattr(
        measures, "background_perplexity", lambda model: 1.0
    )  # it asks the shipped questions: real words
    files = [*tiny_files(tmp_path), "--folder", str(tmp_path / "run"), "--json", str(tmp_path / "out" / "chat.json")]
    options = ["--task", "qaedit", "--count", "3", "--set", "layer=1", "--set", "top_k=24", "--set", "steps=3"]
    monkeypatch.setattr(sys, "argv", ["chat", *files, *options])
    chat.main()
    row = rows.Row(**json.loads((tmp_path / "out" / "chat.json").read_text()))
    assert row.settings["config"]["router"] == "tokens" and row.settings["task"] == "qaedit"
    found = row.result["answers"]
    assert found["all"]["rows"] == 3 and found["first tenth"]["rows"] == 1 == found["last tenth"]["rows"]
    assert found["subject once"]["rows"] == 0  # the rows name no subject
    rows.append(row, tmp_path)
    assert "rows.jsonl, rows 0-2" in "\n".join(page.sections(tmp_path))


def test_answers_are_counted(monkeypatch):
    facts = [Row("p0", "Lena Ortiz", "r0", "u0", subject="a"), Row("p1", "12 euros", "r1", "u1", subject="b"),
             Row("p2", "Bonn", "r2", "u2", subject="b")]  # fmt: skip
    said = {"p0": "Lena Ortiz.", "p1": "12 euros euros", "p2": "It is Bonn", "r0": "lena ortiz", "r1": "no", "r2": "Bonn",
            "u0": "as before", "u1": "12 euros", "u2": "other"}  # fmt: skip
    before = {"u0": "as before", "u1": "one", "u2": ""}

    class Model:
        edited = True

        class encoder:
            @staticmethod
            def prompt(text):
                return type("", (), {"tokens": [0]})

            @staticmethod
            def pair(prompt, target):
                return type("", (), {"tokens": [0] * (1 + len(target))})

        def disabled(self):
            return self

        def __enter__(self):
            self.edited = False

        def __exit__(self, *error):
            self.edited = True

        def ask(self, prompts, max_new_tokens):
            return [said[p] if self.edited else before[p] for p in prompts]

    found = chat.written_answers(Model(), facts)
    assert found["all"]["prompt"] == pytest.approx({"begins": 2 / 3, "contains": 1, "exact and ended": 1 / 3})
    assert found["all"]["rephrase"] == pytest.approx({"begins": 2 / 3, "contains": 2 / 3, "exact and ended": 2 / 3})
    assert found["all"]["unrelated"] == pytest.approx(
        {"unchanged": 1 / 3, "answered": 2 / 3, "given the target": 1 / 3}
    )
    assert found["subject once"]["rows"] == 1 and found["subject once"]["prompt"]["exact and ended"] == 1
