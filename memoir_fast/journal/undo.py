"""What can be done with an edit after it was made; `MemoirModel` inherits it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .journal import Journal


class Undo:
    """The verbs of a journal, for whatever has one."""

    journal: Journal

    @property
    def edits(self) -> dict[int, dict[str, Any]]:
        """The active edits' rows by id; see `EditRecord`."""
        return self.journal.edits

    @property
    def next_id(self) -> int:
        """The number of the next edit."""
        return self.journal.next_id

    def delete(self, edit: int) -> None:
        """Take an edit back; what it superseded comes back. See `Journal.delete`."""
        self.journal.delete(edit)

    def restore(self, edit: int) -> None:
        """Bring a deleted or superseded edit back."""
        self.journal.restore(edit)

    def disable(self, edit: int) -> None:
        """Let no prompt find an edit, without taking its update back."""
        self.journal.disable(edit)

    def enable(self, edit: int) -> None:
        """Undo `disable`."""
        self.journal.enable(edit)

    def tag(self, edit: int, tags: Iterable[str]) -> None:
        """Replace an edit's tags."""
        self.journal.tag(edit, tags)

    def rollback(self, to: int | str) -> list[int]:
        """Every edit's status as it was after edit `to`, or at a time (ISO 8601); returns the changed edits."""
        return self.journal.rollback(to)

    def close(self) -> None:
        """Close the journal: a store is flushed and its lock given back. The model goes on answering, but cannot be edited."""
        with self.journal.writing:
            self.journal.close()
