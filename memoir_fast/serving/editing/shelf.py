"""The store's edits as people list them. The worker brings them up to date after each change; anyone reads them at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...journal.record import Entry
from ...journal.search import search
from ...store import Store
from .facts import REVIEW


@dataclass(frozen=True)
class Event:
    """Something that happened to an edit: at, what ("made", "active", "disabled", "superseded", "deleted", "tags"), in which record, and by which
    other edit, if one took its place or was made instead."""

    at: str
    what: str
    seq: int
    by: int | None = None


class Shelf:
    """Copies of a store's rows and of what its log says of each edit.

    Args:
        store: open; only the thread that changes it may call `update`.
        also: is given the records that each update takes in.

    Attributes:
        seq: the number of the last record that is taken in.
    """

    def __init__(self, store: Store, also: Callable[[list[Entry]], None] = lambda _: None):
        self._also = also
        self._store, self._lock = store, threading.Lock()
        self._rows: dict[int, dict[str, Any]] = {}
        self._events: dict[int, list[Event]] = {}
        self._made: dict[str, int] = {}
        self.seq = 0
        self.update()

    def update(self) -> None:
        """Take in the store's new records."""
        entries = self._store.history(self.seq)
        touched = {edit: self._store.state.row(edit) for edit in self._store.touched(entries)}
        with self._lock:
            for entry in entries:
                self._note(entry)
            self._rows.update(touched)
            self.seq = self._store.state.seq
        self._also(entries)

    def row(self, edit: int) -> dict[str, Any] | None:
        """An edit's row, see `EditRecord.row`; None where there is no such edit."""
        with self._lock:
            return self._rows.get(edit)

    def events(self, edit: int) -> list[Event]:
        """What happened to an edit, in order."""
        with self._lock:
            return list(self._events.get(edit, []))

    def made_of(self, proposal: str) -> int | None:
        """The edit whose metadata names a proposal; None for none."""
        with self._lock:
            return self._made.get(proposal)

    def rows(self) -> list[dict[str, Any]]:
        """All rows, whatever their status, by id."""
        with self._lock:
            return list(self._rows.values())

    def page(self, before: int | None, limit: int, **wanted: Any) -> tuple[list[dict[str, Any]], int]:
        """The newest edits that fit, and how many fit in all.

        Args:
            before: only edits with smaller ids, None for all; limit: the most to return; wanted: see `journal.search.search`.

        Raises:
            ValueError: `since` or `until` is no time.
        """
        found = search(self.rows(), **wanted)
        shown = [row for row in reversed(found) if before is None or row["id"] < before]
        return shown[:limit], len(found)

    def _note(self, entry: Entry) -> None:
        header, seq = entry.header, entry.seq
        at = str(header["created"])
        if header["kind"] == "edit":
            edit = header["id"]
            self._add(edit, Event(at, "made", seq))
            review = header["metadata"].get(REVIEW)
            if isinstance(review, dict) and isinstance(review.get("proposal"), str):
                self._made[review["proposal"]] = edit
            for old in header["supersedes"]:
                self._add(old, Event(at, "superseded", seq, edit))
        elif header["kind"] == "status":
            for edit, status in header["changes"]:
                by = header.get("by") if status == "superseded" else None
                self._add(edit, Event(at, status, seq, by))
        else:
            self._add(header["id"], Event(at, "tags", seq))

    def _add(self, edit: int, event: Event) -> None:
        self._events.setdefault(edit, []).append(event)
