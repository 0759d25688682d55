"""Reads JSON from untrusted files: size, depth, numbers and text are checked, and every error says where it is."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import brief, quoted
from . import files

DEEPEST = 500  # brackets within brackets
LONGEST_LINES = 1 << 30  # bytes of a JSONL file
# Of a text without escapes. A string is matched as a whole, and an unterminated one to the end, so that no character is scanned twice; a group that
# repeats would keep a hundred bytes for each escape.
_BRACKETS = re.compile(r'"[^"]*"?|[\[{\]}]')
_LINES = 1 << 30  # bytes of a JSONL file
# Strings are matched as a whole; an unterminated one matches to the end of the file, so that no byte is scanned twice.
_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[{\]}]', re.DOTALL)
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+\Z")
_REMEDY = "save it as UTF-8 (`iconv -f latin1 -t utf-8`, or your editor's `save with encoding`)"


def parse(data: bytes | str, where: str) -> Any:
    """The value of a JSON text.

    Args:
        data: the text, or its UTF-8 bytes.
        where: the file, and the line or record in it, for messages.

    Raises:
        ValueError: it is not JSON or not UTF-8, is nested deeper than `DEEPEST` brackets, or holds NaN or a number
            beyond float64.
    """
    text = text_of(data, where) if isinstance(data, bytes) else data
    depth = 0
    if text.count("[") + text.count("{") > DEEPEST:
        for found in _BRACKETS.finditer(text.replace("\\\\", "").replace('\\"', "")):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
            if depth > DEEPEST:
                raise ValueError(f"{where}: nested deeper than {DEEPEST} brackets")
    try:
        return json.loads(text, parse_constant=_refused, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON ({brief(error)})") from None


def text_of(data: bytes, where: str) -> str:
    """UTF-8 bytes, with or without a byte order mark, as text. Raises ValueError naming the place, the byte and the
    remedy."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{where}, line {line}: byte {data[error.start]:#04x} is not UTF-8 text; {_REMEDY}"
            if ", line " not in where
            else f"{where}: byte {data[error.start]:#04x} is not UTF-8 text; {_REMEDY}"
        ) from None


def lines(path: str | Path, what: str) -> Iterator[tuple[Any, str]]:
    """(value, where it stands) of a JSONL file's lines that are not blank.

    Args:
        path: the file.
        what: the argument that names the file, for messages.

    Raises:
        ValueError: the file is missing, not a regular file or not UTF-8, or a line is not JSON.
    """
    for line, where in text_lines(path, what):
        yield value_of(line, where), where


def text_lines(path: str | Path, what: str) -> Iterator[tuple[str, str]]:
    """(text, where it stands) of a file's lines that are not blank. A line ends at a line feed, and nowhere else: U+2028 and its like may stand
    in a text. Raises ValueError as `lines`, but for lines that are not JSON."""
    for number, line in enumerate(text_of_file(path, what).split("\n"), 1):
        if line.strip():
            yield line, f"{what}: {path}, line {number}"


def text_of_file(path: str | Path, what: str) -> str:
    """The text of a file that the user names. Raises ValueError where it is missing, no regular file, or not UTF-8."""
    path = Path(path)
    return text_of(files.read_named(path, what, LONGEST_LINES), f"{what}: {path}")


def with_ends(text: str) -> Iterator[str]:
    """A text's lines with their ends (line feed, carriage return, or both), one at a time, as the csv module reads them. `io.StringIO` would
    hold four bytes for each character."""
    return (found[0] for found in _LINE.finditer(text))


def value_of(line: str, where: str) -> Any:
    """The value of one line of JSON. Raises ValueError as `parse`, and as `whole`."""
    return whole(parse(line, where), where)


def whole(value: Any, where: str) -> Any:
    """The value itself, if all its texts can be written as UTF-8. Raises ValueError naming a text with half a surrogate
    pair."""
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            stack += [*one, *one.values()]
        elif isinstance(one, list):
            stack += one
        elif isinstance(one, str) and half_pair(one):
            raise ValueError(f"{where}: {quoted(one)} holds half a surrogate pair, which is no character: {HALF}")
    return value


HALF = "write the character itself, or both halves of its \\u escape"


def half_pair(text: str) -> bool:
    """Whether a text holds half a surrogate pair. It comes from a broken escape, and no file or tokenizer accepts
    it."""
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)


def _refused(name: str) -> float:
    raise ValueError(f"{name} is not a number that JSON knows")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value
