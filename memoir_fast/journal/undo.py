"""What can be done with an edit once it is made; `MemoirModel` inherits this."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from .journal import Journal


class Undo:
    """A journal's operations, for an object that has one. Each raises as the `Journal` method of its name."""

    journal: Journal

    @contextlib.contextmanager
    def _alone(self) -> Iterator[Journal]:
        """The journal, while nobody else changes the memory. It is looked up under the lock: a rehearsal has a journal of its own, with the
        same lock."""
        with self.journal.writing:
            yield self.journal

    @property
    def edits(self) -> dict[int, dict[str, Any]]:
        """The active edits' rows, by id; see `EditRecord`."""
        return self.journal.edits

    @property
    def next_id(self) -> int:
        """The id that the next edit will get."""
        return self.journal.next_id

    def delete(self, edit: int) -> None:
        """Take an edit back; what it superseded comes back. See `Journal.delete`."""
        with self._alone() as journal:
            journal.delete(edit)

    def restore(self, edit: int) -> None:
        """Bring a deleted or superseded edit back."""
        with self._alone() as journal:
            journal.restore(edit)

    def disable(self, edit: int) -> None:
        """Hide an edit from prompts without taking its update back."""
        with self._alone() as journal:
            journal.disable(edit)

    def enable(self, edit: int) -> None:
        """Undo `disable`."""
        with self._alone() as journal:
            journal.enable(edit)

    def tag(self, edit: int, tags: Iterable[str]) -> None:
        """Replace an edit's tags."""
        with self._alone() as journal:
            journal.tag(edit, tags)

    def rollback(self, to: int | str, empty: bool = False) -> list[int]:
        """Give every edit the status that it had just after edit `to`, or at a time (ISO 8601); returns the changed
        edits. A time before the first edit, which would delete them all, is refused without `empty=True`."""
        with self._alone() as journal:
            return journal.rollback(to, empty)

    def close(self) -> None:
        """Close the journal: a store is flushed and its lock released. The model still answers but cannot be edited."""
        with self._alone() as journal:
            journal.close()
