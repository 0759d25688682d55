"""Facts to edit, and the questions that test them, read from JSONL files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base import json_text

# Field of Fact -> its names in benchmark files; the first one found is used.
_FIELDS = {
    "prompt": ("prompt",),
    "target": ("target", "target_new"),
    "rephrase": ("rephrase", "rephrase_prompt"),
    "other_question": ("other_question",),
    "other_subject": ("other_subject",),
    "unrelated": ("unrelated", "locality_prompt"),
    "unrelated_answer": ("unrelated_answer", "locality_ground_truth"),
    "kind": ("kind",),
}


@dataclass(frozen=True)
class Fact:
    """One edit and its test questions; all but prompt and target may be empty.

    Attributes:
        prompt, target: the edit.
        rephrase: the prompt in other words (generalization).
        other_question, other_subject: near misses: another question about the prompt's subject, and the prompt's
            question about another subject.
        unrelated: a question that the edit must not affect (locality).
        unrelated_answer: an answer to it; at its positions the base model's tokens must not change.
        kind: a label for tables.
    """

    prompt: str
    target: str
    rephrase: str = ""
    other_question: str = ""
    other_subject: str = ""
    unrelated: str = ""
    unrelated_answer: str = ""
    kind: str = ""


def load_facts(path: str | Path, count: int | None = None) -> list[Fact]:
    """The first `count` facts (all, when None) of a JSONL file.

    Raises:
        ValueError: the file is missing, a line is not an object with text prompt and target, or there are fewer than
            `count` facts.
    """
    return [_fact(record, where) for record, where in _records(path, count)]


def _records(path: str | Path, count: int | None) -> Iterator[tuple[dict[str, Any], str]]:
    """(object, place for messages) of the first `count` lines of a JSONL file."""
    given = 0
    for record, where in json_text.lines(path, "edits"):
        if given == count:
            return
        if not isinstance(record, dict):
            raise ValueError(f"{where}: expected a JSON object, got {type(record).__name__}")
        given += 1
        yield record, where
    if given < (count or 1):
        raise ValueError(f"edits: {path} has {given} facts, asked for {count or 'at least one'}")


def _fact(record: dict[str, Any], where: str) -> Fact:
    values = {}
    for field, names in _FIELDS.items():
        value = next((record[name] for name in names if record.get(name) is not None), "")
        if not isinstance(value, str):
            raise ValueError(f"{where}: {' / '.join(names)} must be text, got {type(value).__name__}")
        values[field] = value
    for field in ("prompt", "target"):
        if not values[field].strip():
            raise ValueError(f"{where}: {' / '.join(_FIELDS[field])} is missing or empty")
    return Fact(**values)
