"""Rows for tiny models, which know words w0 to w179."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.quality.tasks import Row
from tests.support.models import background_texts, tiny_model, word_tokenizer

ROWS = [
    Row("w100 w101 w102", "w150", "w101 w100 w102", "w20 w21 w22", "w30 w31", "w151", "w40 w41"),
    Row("w110 w111 w112", "w152", "w111 w110 w112", "w23 w24 w25", "w32", "w153", "w42"),
]


def pair(row: int) -> tuple[str, str]:
    """A row's prompt and target."""
    return ROWS[row].prompt, ROWS[row].target


def tiny_files(folder: Path) -> list[str]:
    """The options of a benchmark that edits a tiny model, its facts and its background; their files lie in `folder`."""
    tiny_model("llama").save_pretrained(folder / "base")
    word_tokenizer().save_pretrained(folder / "base")
    lines = [{"prompt": f"w1{i}0 w1{i}1 w1{i}2", "target_new": f"w15{i}", "rephrase_prompt": f"w1{i}1 w1{i}0", "subject": "",
              "locality_prompt": "w20 w21", "locality_ground_truth": "w30"} for i in range(4)]  # fmt: skip
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    unrelated = [json.dumps({"prompt": prompt}) for prompt, _ in background_texts().records]
    (folder / "background.jsonl").write_text("\n".join(unrelated))
    return [
        "--model",
        str(folder / "base"),
        "--edits",
        str(folder / "rows.jsonl"),
        "--background",
        str(folder / "background.jsonl"),
    ]
