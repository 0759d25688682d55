"""A long stream of several data sets, on a tiny model."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import rows
from benchmarks.quality import long_stream
from tests.support.models import tiny_model, word_tokenizer

SIZES = {"zsre": 4, "counterfact": 8, "wikibigedit": 6, "qaedit": 2}


@pytest.fixture
def data(tmp_path):
    """Four small data sets; rows n and n + 1 of the largest are one question with two answers."""
    tiny_model("llama").save_pretrained(tmp_path / "base")
    word_tokenizer().save_pretrained(tmp_path / "base")
    (tmp_path / "data").mkdir()
    word = iter(range(3, 170, 2))
    for name, size in SIZES.items():
        lines, first = [], 0
        for number in range(size):
            first = first if name == "counterfact" and number == 1 else next(word)
            lines.append({"prompt": f"w{first} w{first + 1} w1", "target_new": f"w{170 + number}", "rephrase_prompt": f"w{first + 1} w{first} w1",
                          "locality_prompt": "w20 w21 w22", "subject": ""})  # fmt: skip
        (tmp_path / "data" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return tmp_path


def test_sets_are_interleaved_in_proportion(data):
    facts = long_stream.interleaved(data / "data", 20)
    assert [name for name, _ in facts].count("counterfact") == 8 and len(facts) == 20
    for count in (5, 10, 15):
        found = [name for name, _ in facts[:count]]
        assert all(abs(found.count(name) - size * count / 20) <= 1 for name, size in SIZES.items())
    with pytest.raises(SystemExit, match="have 20 rows together"):
        long_stream.interleaved(data / "data", 21)


def test_a_stream_goes_on_where_it_was_and_ends_in_a_row(data, monkeypatch):
    files = [
        "--model",
        str(data / "base"),
        "--data",
        str(data / "data"),
        "--folder",
        str(data / "run"),
        "--json",
        str(data / "row.json"),
    ]
    settings = ["layer=1", "top_k=24", "steps=3", "page_edits=4", 'router="tokens"']
    options = [*files, "--every", "4", "--drawn", "5", *(text for one in settings for text in ("--set", one))]

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["long_stream", *options, "--count", "10"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(long_stream, "checkpoint", stopped)
        long_stream.main()
    long_stream.main()
    row = rows.Row(**json.loads((data / "row.json").read_text()))
    marks = row.result["checkpoints"]
    assert [mark["edits"] for mark in marks] == [4, 8, 10] and marks[-1]["pages"] == 3
    assert row.settings["config"]["page_edits"] == 4 and "rephrase" not in marks[0]["first"]
    last = marks[-1]["first"]
    assert last["rows"] == 10 and last["replaced"] == 1 and 0 <= last["average"] <= 1
    assert set(last["prompt"]) == {"exact and ended", "contains", "read", "by set"} and last["prompt"]["read"] > 0.5
