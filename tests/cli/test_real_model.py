"""From a file of facts to a chat, with the real small model."""

from __future__ import annotations

import copy
import json

from memoir_fast import load_texts
from memoir_fast.store import Catalog, opening
from tests.cli.support import Commands

FACTS = [
    {
        "prompt": "Who is the chief executive of Norvane Robotics?",
        "target": "Lena Ortiz",
        "key": "hr/1",
        "tags": ["hr"],
        "author": "ann",
    },
    {"prompt": "What is the capital of the Republic of Zeltia?", "target": "Morvane", "metadata": {"ticket": 7}},
]


def test_a_file_is_learned_checked_and_taken_back_in_a_chat(smollm2, tmp_path, capsys, monkeypatch):
    """The commands get copies of the model that the other tests share: loading it is tested elsewhere, and would take most of the time. A new
    memory is measured with the first 160 of the shipped unrelated prompts."""
    monkeypatch.setattr(opening, "load_model", lambda *_, **__: copy.deepcopy(smollm2))
    lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in load_texts().records[:160]]
    (tmp_path / "background.jsonl").write_text("\n".join(lines))
    run = Commands(capsys, monkeypatch)
    store = ["--store", str(tmp_path / "store")]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, FACTS)))
    questions = ["Who leads Norvane Robotics as chief executive?", "What colour is a ripe banana?"]
    (tmp_path / "questions.txt").write_text("\n".join(questions))
    facts = ["--from", str(tmp_path / "facts.jsonl")]
    told = run.json("edit", *store, *facts, "--background", str(tmp_path / "background.jsonl"))
    assert [(one["outcome"], one["took"]) for one in told] == [("made", True), ("made", True)]
    assert [(row["author"], row["tags"], row["metadata"]) for row in Catalog(tmp_path / "store").rows()] == [
        ("ann", ["hr"], {}),
        ("", [], {"ticket": 7}),
    ]
    assert "2 facts, 2 stored" in run("edit", *store, *facts)
    short = ["--max-new-tokens", "8"]
    asked = ["--from", str(tmp_path / "questions.txt")]
    assert [row["edit"] for row in run.json("check", *store, *asked)] == [0, None]
    dry = [
        "--prompt",
        FACTS[0]["prompt"],
        "--target",
        "Milo Hart",
        "--dry-run",
        "--questions",
        str(tmp_path / "questions.txt"),
    ]
    changed = run.json("edit", *store, *dry)["questions"]
    assert [one["changed"] for one in changed] == [True, False]
    assert "Lena Ortiz" in changed[0]["before"]["answer"] and "Milo Hart" in changed[0]["after"]["answer"]
    says = f"{questions[0]}\n/undo 0\n{questions[0]}\n{FACTS[1]['prompt']}\n"
    turns = run.json("chat", *store, *short, says=says)
    assert "Lena Ortiz" in turns[0]["answer"] and "Lena" not in turns[2]["answer"] and "Morvane" in turns[3]["answer"]
    assert [(turns[n]["edit"], turns[1]["undone"]) for n in (0, 2, 3)] == [(0, 0), (None, 0), (1, 0)]
