"""Which edits say what, without a look at all of them; and their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
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


class Rows(MutableMapping[int, dict[str, Any]]):
    """Edit -> its row, made when it is first asked for: most rows of a store that is opened never are.

    Args:
        make: an edit's row.
    """

    def __init__(self, make: Callable[[int], dict[str, Any]]):
        self._make = make
        self._rows: dict[int, dict[str, Any] | None] = {}

    def note(self, edit: int) -> None:
        """The edit has a row, which is made anew."""
        self._rows[edit] = None

    def __getitem__(self, edit: int) -> dict[str, Any]:
        row = self._rows[edit]
        if row is None:
            row = self._rows[edit] = self._make(edit)
        return row

    def __setitem__(self, edit: int, row: dict[str, Any]) -> None:
        self._rows[edit] = row

    def __delitem__(self, edit: int) -> None:
        del self._rows[edit]

    def pop(self, edit: int, default: Any = None) -> Any:
        """Forget an edit's row; returns nothing but the default, for what the row is made of may be gone."""
        self._rows.pop(edit, None)
        return default

    def __contains__(self, edit: object) -> bool:
        return edit in self._rows

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def clear(self) -> None:
        """No edit has a row."""
        self._rows.clear()
