"""What a log adds up to: the memory, and each edit's status. Live edits, opening and refreshing all go through `apply`."""

from __future__ import annotations

import torch

from ..memory.residual import ResidualMemory
from .record import Entry, check_header, edit_update

# Whether an edit's update is in V (and C), and whether queries find it.
STATUSES = {"active": (True, True), "disabled": (True, False), "superseded": (False, False), "deleted": (False, False)}
_DETAILS = ("id", "prompt", "target", "author", "created", "loss", "steps", "seconds", "nearest", "overlap", "supersedes",
            "tags", "metadata")  # fmt: skip


class State:
    """The memory with the edits of a log.

    Args:
        memory: an empty memory, or one filled from a snapshot; the records up to it are then applied without effect.

    Attributes:
        seq: the last record applied; entries: id -> the edit's record; statuses: id -> status; tags: id -> list.
        edits: the active edits' details, by id.
        changed: counts the changes that took something away or brought it back: what was derived from the stored signatures
            must then be derived again.
    """

    def __init__(self, memory: ResidualMemory):
        self.memory = memory
        self.seq = 0
        self.entries: dict[int, Entry] = {}
        self.statuses: dict[int, str] = {}
        self.tags: dict[int, list[str]] = {}
        self.edits: dict[int, dict] = {}
        self.changed = 0
        self.next_id = 0

    def clear(self) -> None:
        """Forget everything; the memory is emptied by whoever fills it."""
        for kept in (self.entries, self.statuses, self.tags, self.edits):
            kept.clear()
        self.seq, self.next_id, self.changed = 0, 0, self.changed + 1

    @torch.no_grad()
    def apply(self, entry: Entry, effect: bool = True) -> None:
        """Take in the next record. effect: False where the memory holds it already (it came from a snapshot)."""
        header = entry.header
        check_header(entry)
        if entry.seq != self.seq + 1:
            raise ValueError(f"{entry.path}: record {entry.seq} does not follow {self.seq}")
        if header["kind"] == "edit":
            self._edit(entry, effect)
        elif header["kind"] == "status":
            for edit, status in header["changes"]:
                self._set(edit, status, effect)
        else:
            self._tag(header["id"], header["tags"])
        self.seq = entry.seq

    def update_of(self, edit: int):
        """An edit's update, read from its record."""
        memory = self.memory
        sizes = (memory.in_features, memory.out_features, memory.top_k)
        return edit_update(self.entries[edit], sizes, memory.C is not None)

    def row(self, edit: int) -> dict:
        """An edit's row of the ledger."""
        header = self.entries[edit].header
        details = {name: header[name] for name in _DETAILS}
        return {**details, "tags": self.tags[edit], "status": self.statuses[edit], "seq": header["seq"]}

    def _edit(self, entry: Entry, effect: bool) -> None:
        header, memory = entry.header, self.memory
        edit = header["id"]
        if edit != self.next_id:
            raise ValueError(f"{entry.path}: record {entry.seq} makes edit {edit}, expected {self.next_id}")
        for old in header["supersedes"]:
            self._set(old, "superseded", effect)
        self.entries[edit], self.statuses[edit], self.tags[edit] = entry, "active", list(header["tags"])
        if effect:
            update = self.update_of(edit)
            memory.scale = update.scale
            memory.write(update)
            memory.index.add([edit], update.signature[None])
        self.next_id = edit + 1
        self._note(edit)

    def _set(self, edit: int, status: str, effect: bool) -> None:
        if status not in STATUSES or edit not in self.entries:
            raise ValueError(f"a record sets edit {edit!r} to {status!r}: there is no such edit or status")
        (written, found), (write, find) = STATUSES[self.statuses[edit]], STATUSES[status]
        if effect and (written, found) != (write, find):
            index = self.memory.index
            if found and not find:  # readers stop finding it before its update goes
                index.remove([edit])
            if written != write or (find and not found):
                update = self.update_of(edit)
                if written != write:
                    self.memory.write(update, 1 if write else -1)
                if find and not found:
                    index.add([edit], update.signature[None])
        self.statuses[edit] = status
        self.changed += 1
        self._note(edit)

    def _tag(self, edit: int, tags: list[str]) -> None:
        if edit not in self.entries:
            raise ValueError(f"a record tags edit {edit!r}: there is no such edit")
        self.tags[edit] = list(tags)
        self.memory.index.version += 1  # what was chosen by tags is chosen anew
        self._note(edit)

    def _note(self, edit: int) -> None:
        if STATUSES[self.statuses[edit]][1]:
            self.edits[edit] = self.row(edit)
        else:
            self.edits.pop(edit, None)

    def active(self) -> list[int]:
        return [edit for edit, status in self.statuses.items() if status == "active"]

    def written(self) -> list[int]:
        """The edits whose updates are in V and C."""
        return [edit for edit, status in self.statuses.items() if STATUSES[status][0]]
