"""The result of a journal's records: the memory and each edit's status. New edits, opening and refreshing all use
`apply`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import quoted
from .edit_record import EditRecord, row_of
from .lists import Lists, Rows, asked
from .record import Entry, check_header, edit_update

if TYPE_CHECKING:
    from ..memory.residual import ResidualMemory
    from ..memory.update import Update

# Whether an edit's update is in V (and C), and whether queries find it.
STATUSES = {"active": (True, True), "disabled": (True, False), "superseded": (False, False), "deleted": (False, False)}


class State:
    """The memory with a journal's edits. Each record is applied as one change, so a reader sees the memory before or
    after it.

    Args:
        memory: an empty memory, or one filled from a snapshot; the records up to it are then applied without effect. None: only what
            becomes of the edits is followed, every record without effect and without torch.

    Attributes:
        seq: number of the last record applied.
        entries: edit id -> its record.
        statuses: edit id -> its status.
        tags: edit id -> its tags.
        edits: edit id -> its row (see `EditRecord`), for active edits.
        successors, predecessors: edit id -> the edits that replaced it, or that it replaced, by being made or brought
            back.
        changed: counts status changes and reloads.
        next_id: the id that the next edit gets.
    """

    def __init__(self, memory: ResidualMemory | None):
        self._memory = memory
        self.seq = 0
        self.entries: dict[int, Entry] = {}
        self.statuses: dict[int, str] = {}
        self.tags: dict[int, list[str]] = {}
        self.edits = self._rows()
        self.successors: dict[int, list[int]] = {}
        self.predecessors: dict[int, list[int]] = {}
        self._ranks: dict[int, tuple[int, int]] = {}
        self.changed = 0
        self.next_id = 0
        self._disabled: dict[int, np.ndarray] = {}  # signatures of disabled edits, which the index does not hold
        self._asking, self._keyed = Lists(), Lists()
        self._listed = 0  # edits below this id are in the two lists

    @property
    def memory(self) -> ResidualMemory:
        """The memory; it must have one."""
        assert self._memory is not None, "a state without a memory was asked for it"
        return self._memory

    @memory.setter
    def memory(self, memory: ResidualMemory) -> None:
        self._memory = memory

    def by_edit(self) -> dict[str, MutableMapping[int, Any]]:
        """The dictionaries that are kept by edit id (not copies), by name."""
        names = ("entries", "statuses", "tags", "edits", "successors", "predecessors", "_ranks", "_disabled")
        return {name: getattr(self, name) for name in names}

    def counts(self) -> dict[str, int]:
        """The counters, by name."""
        return {"seq": self.seq, "next_id": self.next_id, "changed": self.changed}

    def count_as(self, counts: dict[str, int]) -> None:
        """Take earlier counters again; the caller has put back what is kept by edit id."""
        vars(self).update(counts)
        self._listed = min(self._listed, self.next_id)

    def clear(self) -> None:
        """Forget everything; the caller empties the memory."""
        for kept in self.by_edit().values():
            kept.clear()
        self.seq, self.next_id, self.changed = 0, 0, self.changed + 1
        self._forget_lists()

    def copied(self) -> State:
        """What is kept of each edit, in a state of its own without a memory."""
        other = State(None)
        other._take({name: dict(kept) for name, kept in self.by_edit().items() if name != "edits"}, self.edits)
        vars(other).update(self.counts())
        other._forget_lists()
        return other

    def take(self, other: State) -> None:
        """Take over another state; the caller fills this one's memory from the other's."""
        self._take({name: kept for name, kept in other.by_edit().items() if name != "edits"}, other.edits)
        changed = self.changed + 1
        vars(self).update(other.counts())
        self.changed = changed
        self._forget_lists()

    def _take(self, kept: dict[str, Any], active: Iterable[int]) -> None:
        """Take over what is kept by edit id, and which edits have rows."""
        vars(self).update(kept)
        self.edits = self._rows()
        for edit in active:
            self.edits.note(edit)

    def apply(self, entry: Entry, effect: bool = True) -> None:
        """Take in the next record. effect: False where the memory holds it already (it came from a snapshot)."""
        header, effect = entry.header, effect and self._memory is not None
        check_header(entry)
        if entry.seq != self.seq + 1:
            raise ValueError(f"{entry.path}: record {entry.seq} does not follow {self.seq}")
        with self._changing() if effect else contextlib.nullcontext():
            if header["kind"] == "edit":
                self._edit(entry, effect)
            elif header["kind"] == "status":
                for edit, status in header["changes"]:
                    self._set(edit, status, effect)
                if "by" in header:
                    self._succeed(header["by"], [edit for edit, status in header["changes"] if status == "superseded"])
            else:
                self._tag(header["id"], header["tags"])
            self.seq = entry.seq

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """The memory, to be changed in one piece."""
        import torch

        with self.memory.lock, torch.no_grad():
            yield

    def adopt(self, rows: list[dict[str, Any]], next_id: int, source: Path) -> None:
        """Take over a memory folder's active edits, which the memory holds already and whose updates are not kept."""
        for row in rows:
            header = {**EditRecord.of(row).row(), "codes": row.get("codes", []), "kind": "edit", "seq": 0}
            edit = header["id"]
            self.entries[edit] = Entry(header, source, 0, 0, 0)
            self.statuses[edit], self.tags[edit] = "active", list(header["tags"])
            self._note(edit)
        self.next_id = next_id

    def update_of(self, edit: int) -> Update:
        """An edit's update, read from its record. Raises ValueError as `edit_update`."""
        memory = self.memory
        sizes = (memory.in_features, memory.out_features, memory.top_k)
        update = edit_update(self.entries[edit], sizes, memory.reads is not None)
        return replace(update, page=memory.page_of(edit))

    def row(self, edit: int) -> dict[str, Any]:
        """An edit's row, as `EditRecord.row` gives it."""
        return _row(self.entries, self.tags, self.statuses, edit)

    def _rows(self) -> Rows:
        """Rows that are made from what is kept by edit id, not from this object: in a circle with it they would wait for the
        garbage collector."""
        return Rows(functools.partial(_row, self.entries, self.tags, self.statuses))

    def active(self) -> list[int]:
        """The ids of the active edits."""
        return [edit for edit, status in self.statuses.items() if status == "active"]

    def written(self) -> list[int]:
        """The edits whose updates are in V and C."""
        return [edit for edit, status in self.statuses.items() if STATUSES[status][0]]

    def asking(self, text: str) -> list[int]:
        """The edits, whatever their status, whose prompt or one of whose rephrasings is this folded text, ascending."""
        self._list()
        known = [edit for edit in self._asking.of(text) if edit in self.entries]
        return [edit for edit in known if text in asked(self.entries[edit].header)]

    def keyed(self, key: str) -> list[int]:
        """The edits, whatever their status, that were stored under the user's key, ascending."""
        self._list()
        known = [edit for edit in self._keyed.of(key) if edit in self.entries]
        return [edit for edit in known if self.entries[edit].header.get("key") == key]

    def _list(self) -> None:
        """Bring the lists up to date: what was made since is added, so that a question costs nothing for what was there."""
        for edit in range(self._listed, self.next_id):
            if edit in self.entries:
                header = self.entries[edit].header
                self._asking.add(edit, asked(header))
                self._keyed.add(edit, {header.get("key", "")} - {""})
        self._listed = self.next_id

    def _forget_lists(self) -> None:
        self._asking, self._keyed, self._listed = Lists(), Lists(), 0

    def rank(self, edit: int) -> tuple[int, int]:
        """Orders edits by when they were last made active; those from a memory folder come first, ordered by id."""
        return self._ranks.get(edit, (0, edit))

    def needs_update(self, edit: int, status: str) -> bool:
        """Whether changing an edit to `status` needs its update."""
        (written, found), (write, find) = STATUSES[self.statuses[edit]], STATUSES[status]
        return written != write or (find and not found and edit not in self._disabled)

    def _edit(self, entry: Entry, effect: bool) -> None:
        header = entry.header
        edit = header["id"]
        if edit != self.next_id:
            raise ValueError(f"{entry.path}: record {entry.seq} makes edit {edit}, expected {self.next_id}")
        for old in header["supersedes"]:
            self._set(old, "superseded", effect)
        self._succeed(edit, header["supersedes"])
        self._ranks[edit] = (entry.seq, edit)
        self.entries[edit], self.statuses[edit], self.tags[edit] = entry, "active", list(header["tags"])
        if effect:
            update, memory = self.update_of(edit), self.memory
            memory.scale = update.scale
            memory.write(update)
            self._note(edit)
            memory.index.add([edit], update.signature[None])
        self.next_id = edit + 1
        self._note(edit)

    def _succeed(self, edit: int, gone: list[int]) -> None:
        for old in gone:
            self.successors[old] = [*self.successors.get(old, []), edit]
            self.predecessors[edit] = [*self.predecessors.get(edit, []), old]

    def _set(self, edit: int, status: str, effect: bool) -> None:
        if status not in STATUSES or edit not in self.entries:
            raise ValueError(f"a record sets edit {quoted(edit)} to {quoted(status)}: there is no such edit or status")
        (written, found), (write, find) = STATUSES[self.statuses[edit]], STATUSES[status]
        if effect and (written, found) != (write, find):
            self._move(edit, written, found, write, find)
        self.statuses[edit] = status
        if status == "active":
            self._ranks[edit] = (self.seq + 1, edit)
        self.changed += 1
        self._note(edit)

    def _move(self, edit: int, written: bool, found: bool, write: bool, find: bool) -> None:
        """Bring V, C and the index from one status to another."""
        index = self.memory.index
        update = self.update_of(edit) if written != write else None
        signature = index.signature(edit) if found else self._disabled.pop(edit, None)
        if update is not None:
            signature = update.signature
            self.memory.write(update, 1 if write else -1)
        if found and not find:
            index.remove([edit])
        if find and not found:
            index.add([edit], (self.update_of(edit).signature if signature is None else signature)[None])
        if write and not find and signature is not None:
            self._disabled[edit] = signature

    def _tag(self, edit: int, tags: list[str]) -> None:
        if edit not in self.entries:
            raise ValueError(f"a record tags edit {quoted(edit)}: there is no such edit")
        self.tags[edit] = list(tags)
        if self._memory is not None:
            self._memory.index.touch()  # what was chosen by tags is chosen anew
        self._note(edit)

    def _note(self, edit: int) -> None:
        if STATUSES[self.statuses[edit]][1]:
            self.edits.note(edit)
        else:
            self.edits.pop(edit, None)


def _row(entries: dict[int, Entry], tags: dict[int, list[str]], statuses: dict[int, str], edit: int) -> dict[str, Any]:
    header = entries[edit].header
    return row_of(header, tags=tags[edit], status=statuses[edit], seq=header["seq"])
