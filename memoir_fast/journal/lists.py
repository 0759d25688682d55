"""Which edits say what, without a look at all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def folded(text: str) -> str:
    """A text with case and blanks normalised, for comparison."""
    return " ".join(text.casefold().split())


def asked(header: dict[str, Any]) -> set[str]:
    """The folded texts by which an edit is asked for: its prompt and rephrasings, but for blank ones."""
    return {folded(text) for text in (header["prompt"], *header.get("rephrasings", []))} - {""}


class Lists:
    """Text -> edits. An edit that was forgotten, and its id given to another, may still stand under its old texts: whoever asks looks again."""

    def __init__(self) -> None:
        self._edits: dict[str, list[int]] = {}

    def add(self, edit: int, texts: Iterable[str]) -> None:
        """Note an edit under each of these texts."""
        for text in texts:
            self._edits.setdefault(text, []).append(edit)

    def of(self, text: str) -> list[int]:
        """The edits under a text, ascending, each of them once."""
        return sorted(set(self._edits.get(text, ())))
