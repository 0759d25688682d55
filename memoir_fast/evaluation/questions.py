"""Files of questions: JSONL, CSV, or one question a line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ..base import json_text
from ..errors import quoted

_NAMES = ("question", "prompt")


def load_questions(path: str | Path, what: str, count: int | None = None) -> list[str]:
    """The questions of a file, in order.

    A line of a .jsonl file is a text in JSON, or an object with `question` or `prompt`; a .csv file has a column of one of these names; of
    any other file each line that is not blank is a question.

    Args:
        what: the argument that names the file, for messages; count: only the first so many; the lines after them are
            not looked at.

    Raises:
        ValueError: the file is missing, not UTF-8 or not what its name says, or has no question, or fewer than `count`.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".jsonl":
        texts: Iterator[str] = (_question(value, where) for value, where in json_text.lines(path, what))
    elif suffix == ".csv":
        texts = _column(path, what)
    else:
        texts = (json_text.whole(line.strip(), where) for line, where in json_text.text_lines(path, what))
    found = list(islice(texts, count))
    if len(found) < (count or 1):
        raise ValueError(f"{what}: {path} has {len(found)} questions, asked for {count or 'at least one'}")
    return found


def _question(value: Any, where: str) -> str:
    text = value
    if isinstance(value, dict):
        text = next((value[name] for name in _NAMES if value.get(name) is not None), None)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(
            f"{where}: expected a question, as a text or as an object with the field question or prompt, got {quoted(value)}"
        )
    return text.strip()


def _column(path: str | Path, what: str) -> Iterator[str]:
    reader = csv.DictReader(json_text.with_ends(json_text.text_of_file(path, what)), strict=True)
    try:
        name = next((name for name in _NAMES if name in (reader.fieldnames or [])), None)
        if name is None:
            raise ValueError(
                f"{what}: {path}, line 1: must name the columns, question or prompt among them; got {quoted(reader.fieldnames)}"
            )
        for row in reader:
            text = (row[name] or "").strip()
            if text:
                yield json_text.whole(text, f"{what}: {path}, line {reader.line_num}")
    except csv.Error as error:
        raise ValueError(f"{what}: {path}, line {reader.line_num}: not CSV ({error})") from None
