"""A stream of edits that is stopped and goes on, and the row that it ends in."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import harness, rows
from benchmarks.quality import measures, retention
from tests.support.models import background_texts, tiny_model, word_tokenizer


@pytest.fixture
def options(tmp_path, monkeypatch) -> list[str]:
    """The command line of a stream on a tiny model, without its number of rows."""
    tiny_model("llama").save_pretrained(tmp_path / "base"), word_tokenizer().save_pretrained(tmp_path / "base")
    lines = [{"prompt": f"w1{i}0 w1{i}1 w1{i}2", "target_new": f"w15{i}", "rephrase_prompt": f"w1{i}1 w1{i}0", "subject": "",
              "locality_prompt": "w20 w21", "locality_ground_truth": "w30"} for i in range(4)]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "background.jsonl").write_text(
        "\n".join(json.dumps({"prompt": prompt}) for prompt, _ in background_texts().records)
    )
    # It asks the shipped questions: real words.
    monkeypatch.setattr(measures, "background_perplexity", lambda model: 1.0)
    return ["retention", "--model", str(tmp_path / "base"), "--edits", str(tmp_path / "rows.jsonl"), "--free", "--folder",
            str(tmp_path / "run"), "--background", str(tmp_path / "background.jsonl")]  # fmt: skip


SET = ["--set", "layer=1", "--set", "top_k=24", "--thresholds", "1.0", "0.0"]


def run(monkeypatch, options: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", options)
    retention.main()


def test_a_stopped_run_goes_on(options, tmp_path, monkeypatch):
    run(monkeypatch, [*options, *SET, "--count", "2", "--checkpoints", "1"])
    first = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [found["edits"] for found in first["checkpoints"]] == [1, 2]
    run(monkeypatch, [*options, *SET, "--count", "4", "--json", str(tmp_path / "out" / "tiny.json")])
    row = rows.Row(**json.loads((tmp_path / "out" / "tiny.json").read_text()))
    series = rows.read_series(row, tmp_path / "out")
    assert series["losses"][:2] == first["losses"] and len(series["losses"]) == 4 == len(series["overlaps"]["prompt"])
    assert row.settings["edits"] == "rows.jsonl, rows 0-3"  # and what was measured of the first two is measured again
    assert row.result["checkpoints"][2]["edits"] == 4 and "losses" not in row.result
    assert row.result["mean_steps"] == sum(series["steps"]) / 4 and row.settings["config"]["top_k"] == 24
    strict, lax = row.result["sweep"]
    assert strict["routed_prompts"] == 1.0 == lax["routed_rephrasings"] and strict["reliability"] == lax["reliability"]
    assert row.result["checkpoints"][-1]["threshold"] not in (0.0, 1.0)  # the run's own stays
    run(monkeypatch, [*options, "--count", "4", "--again", "--set", "threshold=1.0"])
    again = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [found["edits"] for found in again["checkpoints"]] == [1, 2, 4] and again["settings"]["config"][
        "threshold"
    ] == 1.0
    assert again["losses"] == series["losses"]
    assert again["checkpoints"][-1]["all"]["locality"] == strict["locality"]


def test_a_run_over_two_commits_is_not_traced(options, tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "commit_of", lambda root: ("aaaaaaa", []))
    run(monkeypatch, [*options, *SET, "--count", "1"])
    monkeypatch.setattr(harness, "commit_of", lambda root: ("bbbbbbb", []))
    with pytest.raises(harness.NotTraced, match="began at commit aaaaaaa"):
        run(monkeypatch, [*options, *SET, "--count", "2", "--record"])
    run(monkeypatch, [*options, *SET, "--count", "2", "--json", str(tmp_path / "tiny.json")])
    row = rows.Row(**json.loads((tmp_path / "tiny.json").read_text()))
    assert not row.traced and row.commit == "aaaaaaa+bbbbbbb"
