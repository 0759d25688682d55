"""Files of facts to edit, JSONL or CSV: each line a statement, with every field that an edit keeps."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..base import json_text
from ..editing.request import EditRequest
from ..errors import on_purpose, quoted
from ..journal.edit_writer import note_of
from ..journal.intake import Statement

WHAT = "--from"  # in messages
_LISTS = ("rephrasings", "not_prompts", "tags")
_TEXTS = ("prompt", "target", "subject", "key", "author")
FIELDS = (*_TEXTS, *_LISTS, "metadata")
# What other files call the target, and what they carry for measuring, which no edit keeps.
_TARGETS = ("target", "target_new")
_MEASURING = ("rephrase", "rephrase_prompt", "other_question", "other_subject", "unrelated", "unrelated_answer", "locality_prompt",
              "locality_ground_truth", "ground_truth", "kind")  # fmt: skip


@dataclass
class EditFile:
    """What a file of facts says.

    Attributes:
        statements: one a line, in order; a malformed line is one with an error.
        left_out: names of fields that are there and that no edit keeps.
    """

    statements: list[Statement] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def checked(self) -> list[Statement]:
        """The statements. Raises ValueError that names the first malformed line, and says how many more there are."""
        bad = [one for one in self.statements if one.error]
        if bad:
            more = f" ({len(bad) - 1} more lines are malformed)" if len(bad) > 1 else ""
            raise ValueError(f"{bad[0].where}: {bad[0].error}{more}")
        return self.statements


def load_edits(path: str | Path, count: int | None = None) -> EditFile:
    """The facts of a file.

    A line of JSONL is an object with prompt and target (or target_new), and where there are any rephrasings, not_prompts, tags (lists of
    texts), subject, key, author (texts) and metadata (an object). A file that ends in .csv has these names in its first row; in a cell, the
    texts of a list stand between `|`, or the cell is the list in JSON, and metadata is an object in JSON.

    Args:
        count: only the first so many facts.

    Raises:
        ValueError: the file is missing, not UTF-8, no CSV, or has no fact, or fewer than `count`. What is wrong with one line is its
            statement's `error`.
    """
    found = EditFile()
    left_out: dict[str, None] = {}
    read = _csv_records if Path(path).suffix.lower() == ".csv" else _jsonl_records
    for record_of, where in read(path):
        if len(found.statements) == count:
            break
        try:
            record = record_of()
            statement = _statement(record, where)
            left_out.update(dict.fromkeys(name for name in record if name not in (*FIELDS, *_TARGETS)))
        except (ValueError, TypeError) as error:
            if not on_purpose(error):
                raise  # a bug is no line's fault
            text = str(error)
            statement = Statement(None, where=where, error=text.removeprefix(f"{where}: "))
        found.statements.append(statement)
    if len(found.statements) < (count or 1):
        raise ValueError(f"{WHAT}: {path} has {len(found.statements)} facts, asked for {count or 'at least one'}")
    found.left_out = list(left_out)
    return found


_Records = Iterator[tuple[Callable[[], dict[str, Any]], str]]


def _jsonl_records(path: str | Path) -> _Records:
    for line, where in json_text.text_lines(path, WHAT):
        yield partial(_jsonl_record, line, where), where


def _jsonl_record(line: str, where: str) -> dict[str, Any]:
    value = json_text.value_of(line, where)
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    return value


def _csv_records(path: str | Path) -> _Records:
    reader = csv.reader(json_text.with_ends(json_text.text_of_file(path, WHAT)), strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        if not names or len(set(names)) < len(names) or "prompt" not in names or not set(_TARGETS) & set(names):
            raise ValueError(
                f"{WHAT}: {path}, line 1: must name the columns, prompt and target among them, each once; got {quoted(names)}"
            )
        end = reader.line_num
        for cells in reader:
            where, end = f"{WHAT}: {path}, line {end + 1}", reader.line_num
            if any(cell.strip() for cell in cells):
                yield partial(_csv_record, names, cells, where), where
    except csv.Error as error:
        raise ValueError(f"{WHAT}: {path}, line {reader.line_num}: not CSV ({error})") from None


def _csv_record(names: list[str], cells: list[str], where: str) -> dict[str, Any]:
    if len(cells) > len(names):
        raise ValueError(
            f"has {len(cells)} cells, the first row names {len(names)} columns: put a text with commas between double quotes"
        )
    found: dict[str, Any] = {}
    for name, cell in zip(names, cells, strict=False):
        if not cell.strip():
            continue
        if name == "metadata" or (name in _LISTS and cell.lstrip().startswith("[")):
            found[name] = json_text.value_of(cell, f"{name}: {quoted(cell)}")
        elif name in _LISTS:
            found[name] = [part.strip() for part in cell.split("|") if part.strip()]
        else:
            found[name] = cell
    return json_text.whole(found, where)


def _statement(record: dict[str, Any], where: str) -> Statement:
    """A record's fact, checked. Raises ValueError or TypeError that names the field."""
    _check_names(record)
    given = {name: value for name, value in record.items() if value is not None and value != ""}
    targets = [given[name] for name in _TARGETS if name in given]
    for name, value in (("prompt", given.get("prompt")), ("target / target_new", targets[0] if targets else None)):
        if value is None:
            raise ValueError(f"{name} is missing or empty")
        if not isinstance(value, str):
            raise TypeError(f"{name} must be text, got {type(value).__name__}")
    request = EditRequest(given["prompt"], targets[0], given.get("rephrasings", ()), given.get("not_prompts", ()),
                          given.get("subject", ""), given.get("key", ""))  # fmt: skip
    tags = given.get("tags", [])
    if not isinstance(tags, list):
        raise TypeError(f"tags must be a list of texts, got {quoted(tags)}")
    note = note_of(given.get("author", ""), tags, given.get("metadata"))
    return Statement(request, note["author"], tuple(note["tags"]), note["metadata"], where)


def _check_names(record: dict[str, Any]) -> None:
    """Raise ValueError for a name that looks like a misspelt one: what it says would be lost."""
    known = (*FIELDS, *_TARGETS, *_MEASURING)
    for name in record:
        near = [] if name in known else difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.8)
        if near:
            raise ValueError(f"field {quoted(name)} is unknown: did you mean {near[0]!r}?")
