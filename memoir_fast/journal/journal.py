"""A journal: what happened to each edit of a memory, kept so that it can be undone. On disk it is a `Store`, otherwise volatile."""

from __future__ import annotations

import functools
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any, TypeVar

import torch

from ..config import MemoirConfig
from ..errors import ConflictError, EditError
from ..memory.residual import ResidualMemory
from ..memory.selection import check_tags
from ..memory.update import Update
from .record import DTYPES, Entry, edit_body
from .state import State

CONFLICTS = ("supersede", "keep", "reject")
_Verb = TypeVar("_Verb", bound=Callable)


def exclusive(verb: _Verb) -> _Verb:
    """Decorates a journal's method that changes the memory: one at a time, under the journal's `writing`."""

    @functools.wraps(verb)
    def alone(self: Journal, *args: Any, **kwargs: Any) -> Any:
        with self.writing:
            return verb(self, *args, **kwargs)

    return alone  # type: ignore[return-value]


class Journal(ABC):
    """The common part: what may happen to an edit, and what follows from it.

    Every change is one record: kept first, then applied to the memory as a whole, so that a reader sees all of it or nothing.

    Attributes:
        memory: the residual memory; state: what the records add up to.
        conflict: what becomes of a stored edit that asks the same with another target: "supersede" it, "keep" both, or "reject" the new
            one. Whether two prompts ask the same is told by their words, see `EditWriter`.
        record_dtype: of the records' tensors, a name in `DTYPES`; V is written from the rounded values.
        writing: held by whoever changes the memory or its settings; reentrant. Readers never take it.
    """

    memory: ResidualMemory
    state: State
    conflict: str = "keep"
    record_dtype: str = "float32"

    def __init__(self) -> None:
        self.writing = threading.RLock()

    # ---- how records are kept: the subclasses' part --------------------------------------------------------------

    @abstractmethod
    def check_writable(self) -> None:
        """Raise StoreError unless records can be written."""

    @abstractmethod
    def history(self, after: int = 0) -> list[Entry]:
        """The records past number `after`."""

    @abstractmethod
    def _commit(self, records: list[tuple[dict, bytes]]) -> None:
        """Keep records, then apply them; all of them or none."""

    @abstractmethod
    def configure(self, config: MemoirConfig, tensors: dict[str, torch.Tensor] | None = None) -> None:
        """Keep changed settings (those that did not shape the memory), where settings are kept; and tensors that thresholds and matching are
        made from: "calibration", and those of `MemoryState.words` with `WORDS` in front of their names."""

    def refresh(self) -> int:
        """Take in what another process has added since; returns how many records."""
        return 0

    @property
    def settings(self) -> tuple[MemoirConfig, torch.Tensor, dict[str, torch.Tensor] | None] | None:
        """What `configure` kept last, `calibration` and `words` as in a `MemoryState`; None where no other process can read the journal."""
        return None

    @abstractmethod
    def flush(self) -> None:
        """Wait until every edit so far is kept for good."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the journal holds; it cannot be written to afterwards."""

    # ---- what there is -------------------------------------------------------------------------------------------

    @property
    def edits(self) -> dict[int, dict[str, Any]]:
        """The active edits' rows (see `EditRecord`), by id."""
        with self.memory.lock:
            return dict(self.state.edits)

    @property
    def next_id(self) -> int:
        """The number of the next edit."""
        return self.state.next_id

    def tags_of(self, edit: int) -> list[str]:
        """An edit's tags; the caller holds the memory's lock."""
        return self.state.tags.get(edit, [])

    def same_text(self, prompt: str) -> list[int]:
        """The active edits of which the prompt or a rephrasing is this text, up to case and blanks."""
        wanted = folded(prompt)
        with self.memory.lock:
            rows = self.state.edits.items()
            return [edit for edit, row in rows if wanted in map(folded, (row["prompt"], *row["rephrasings"]))]

    def named(self, key: str) -> int | None:
        """The active edit with the user's key, or None."""
        with self.memory.lock:
            return next((edit for edit, row in self.state.edits.items() if key and row["key"] == key), None)

    def conflicts(self, same: Iterable[int], target: str) -> list[int]:
        """Those of the active edits `same`, which ask what a new edit asks, that it contradicts by its target; ascending.

        Raises:
            ConflictError: there are some, and the policy is "reject".
        """
        if self.conflict == "keep":
            return []
        known = self.state.edits
        found = sorted({i for i in same if known[i]["target"].strip() != target.strip()})
        if found and self.conflict == "reject":
            old = known[found[0]]
            raise ConflictError(
                f"this contradicts edit {found[0]} ({old['prompt'][:80]!r} -> {old['target'][:80]!r}) and the conflict "
                "policy is 'reject': delete that edit first"
            )
        return found

    # ---- edits ---------------------------------------------------------------------------------------------------

    @exclusive
    def add(self, facts: list[dict[str, Any]], updates: list[Update]) -> list[int]:
        """Make finished edits part of the memory, all of them or none.

        Args:
            facts: per edit its fields of `HEADER` but for the id.
            updates: per edit its update.

        Returns:
            the new ids.

        Raises:
            StoreError: they could not be kept. EditError: an update is not finite.
        """
        self.check_writable()
        dtype = DTYPES[self.record_dtype]
        records, first = [], self.state.next_id
        for number, (fact, update) in enumerate(zip(facts, updates, strict=True)):
            update = update.compact().rounded(dtype)
            if not update.is_finite():
                raise EditError("the edit's update is not finite: not made, the memory is unchanged")
            if not all(math.isfinite(fact[name] or 0) for name in ("loss", "seconds", "overlap")):
                raise EditError(f"the edit's loss is {fact['loss']}: not made, the memory is unchanged")
            header = {"seq": self.state.seq + 1 + number, "kind": "edit", "id": first + number, **fact,
                      "decay": update.decay, "scale": update.scale, "dtype": self.record_dtype}  # fmt: skip
            records.append((header, edit_body(update, dtype)))
        self._commit(records)
        return list(range(first, first + len(facts)))

    @exclusive
    def delete(self, edit: int) -> None:
        """Take an edit back: its update is subtracted, its signature removed, and what it superseded comes back.

        Its prompt is then answered as if the edit had never been made, up to what later edits, made while it was there,
        learned around it.
        """
        self._known(edit)
        if self.state.statuses[edit] == "deleted":
            raise ValueError(f"edit {edit} is deleted already")
        self._change([[edit, "deleted"], *([old, "active"] for old in self._superseded_by(edit))])

    @exclusive
    def restore(self, edit: int) -> None:
        """Bring a deleted or superseded edit back; what it superseded is superseded again."""
        self._known(edit)
        statuses = self.state.statuses
        if statuses[edit] not in ("deleted", "superseded"):
            raise ValueError(f"edit {edit} is {statuses[edit]}, not deleted or superseded")
        old = [i for i in self.state.entries[edit].header["supersedes"] if statuses[i] in ("active", "disabled")]
        self._change([*([i, "superseded"] for i in old), [edit, "active"]])

    def disable(self, edit: int) -> None:
        """Let no query find an edit, without taking its update back."""
        self._switch(edit, "active", "disabled")

    def enable(self, edit: int) -> None:
        """Undo `disable`."""
        self._switch(edit, "disabled", "active")

    @exclusive
    def tag(self, edit: int, tags: Iterable[str]) -> None:
        """Replace an edit's tags."""
        self._known(edit)
        self.check_writable()
        header = {"seq": self.state.seq + 1, "kind": "tags", "id": edit, "tags": check_tags(tags), "created": now()}
        self._commit([(header, b"")])

    @exclusive
    def rollback(self, to: int | str) -> list[int]:
        """Every edit's status as it was after edit `to` (an id) was made, or at a time (ISO 8601); returns the changed edits.

        Weight decay that happened since is not undone.
        """
        if isinstance(to, str):
            moment = _time(to)
            kept = [e for e in self.history() if _time(e.header["created"]) <= moment]
        else:
            self._known(to)
            kept = [e for e in self.history() if e.seq <= self.state.entries[to].seq]
        past = State(self.memory)
        past.entries |= {i: e for i, e in self.state.entries.items() if e.seq == 0}
        past.statuses |= dict.fromkeys(past.entries, "active")
        past.tags |= {i: [] for i in past.entries}
        past.next_id = max(past.entries, default=-1) + 1 if past.entries else 0
        for entry in kept:
            past.apply(entry, effect=False)
        wanted = {edit: past.statuses.get(edit, "deleted") for edit in self.state.statuses}
        changes: list[list[Any]] = [
            [edit, status] for edit, status in wanted.items() if status != self.state.statuses[edit]
        ]
        if changes:
            # What goes first: so that two edits of one prompt are never in the memory together.
            self._change(sorted(changes, key=lambda change: change[1] == "active"))
        return [edit for edit, _ in changes]

    # ---- parts ---------------------------------------------------------------------------------------------------

    def _superseded_by(self, edit: int) -> list[int]:
        """What comes back when an edit goes: what it superseded, unless that went on its own or another edit superseded it too."""
        state = self.state
        if state.statuses[edit] not in ("active", "disabled"):
            return []
        others = {old for i in state.written() if i != edit for old in state.entries[i].header["supersedes"]}
        own = state.entries[edit].header["supersedes"]
        return [old for old in own if state.statuses[old] == "superseded" and old not in others]

    @exclusive
    def _switch(self, edit: int, before: str, after: str) -> None:
        self._known(edit)
        if self.state.statuses[edit] != before:
            raise ValueError(f"edit {edit} is {self.state.statuses[edit]}, not {before}")
        self._change([[edit, after]])

    def _change(self, changes: list[list[Any]]) -> None:
        self.check_writable()
        for edit, status in changes:
            if self.state.needs_update(edit, status):
                self.state.update_of(edit)  # refused before anything is kept when its record is damaged or forgotten
        header = {"seq": self.state.seq + 1, "kind": "status", "changes": changes, "created": now()}
        self._commit([(header, b"")])

    def _known(self, edit: int) -> None:
        if isinstance(edit, bool) or not isinstance(edit, int):
            raise TypeError(f"edit must be an int, got {edit!r}")
        if edit not in self.state.entries:
            raise ValueError(f"there is no edit {edit} in {self}")

    def touched(self, entries: list[Entry]) -> list[int]:
        """The edits that some records make or change."""
        found: dict[int, None] = {}
        for entry in entries:
            header = entry.header
            ids = [edit for edit, _ in header["changes"]] if header["kind"] == "status" else [header["id"]]
            found.update(dict.fromkeys([*ids, *header.get("supersedes", [])]))
        return list(found)


def folded(text: str) -> str:
    """A text without differences of case and blanks."""
    return " ".join(text.casefold().split())


def now() -> str:
    """The present time, ISO 8601 in UTC with microseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"to: {text!r} is neither an edit's id nor a time like 2026-01-31T12:00:00+00:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
