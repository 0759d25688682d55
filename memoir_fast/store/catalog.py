"""A store's edits without its memory: read from the headers of its log, in a fraction of a second and without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..base import collecting
from ..errors import CutOff, Damaged
from ..journal.past import past_state
from ..journal.record import Entry
from ..journal.state import State
from .ledger import acknowledged
from .log import History, check_reaches
from .manifest import CONFIG, Manifest, check_snapshots

_TRIES = 3  # while compactions replace the files that are read


class Catalog:
    """What became of a store's edits, for whoever only looks: listing, searching, comparing. It takes no lock and changes nothing.

    Args:
        folder: an existing store.

    Attributes:
        manifest: its `config.json`; state: what the records add up to, without a memory.
        report: what a person should know of the log, as sentences; empty when nothing.

    Raises:
        ValueError: the log or `config.json` is missing, damaged, or not what it should be; the message names file and field. Tensors are
            not read, so what is wrong with them is not found: `Store.verify` reads everything.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.report: list[str] = []
        if not (self.folder / CONFIG).exists():
            raise ValueError(f"{self.folder}: there is no store in this folder ({CONFIG} is missing)")
        self.manifest = Manifest.load(self.folder)
        for left in range(_TRIES, -1, -1):
            try:
                with collecting.put_off():
                    self._history = self._read()
                break
            except ValueError:
                # A compaction may replace the files while they are read: `config.json` tells.
                before, self.manifest = self.manifest, Manifest.load(self.folder)
                if not left or self.manifest == before:
                    raise
                self.report.clear()

    def _read(self) -> list[Entry]:
        name = self.manifest.store
        known_to = acknowledged(self.folder, name)  # asked before the log is read: what the ledger knows is in the log
        history = History(self.folder, name, known_to, CutOff, self.report, cuts=False).read()
        self.state = State(None)
        for entry in history:
            self.state.apply(entry)
        check_snapshots(self.folder, self.state.seq, self.manifest)
        check_reaches(self.folder, self.state.seq, known_to)
        return history

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def scale(self) -> float:
        """The memory's S: that of the last edit made, as its record says. Raises Damaged where that is no number."""
        if not self.state.entries:
            return 1.0
        found = self.state.entries[max(self.state.entries)].header.get("scale")
        if not isinstance(found, float):
            raise Damaged(f"{self.folder}: the record of the last edit says no scale")
        return found

    def row(self, edit: int) -> dict[str, Any]:
        """An edit's row, see `EditRecord.row`. Raises ValueError where there is no such edit."""
        if edit not in self.state.entries:
            raise ValueError(f"there is no edit {edit} in {self}")
        return self.state.row(edit)

    def counts(self) -> dict[str, int]:
        """How many edits have each status, by its name; those that none has are left out."""
        statuses = list(self.state.statuses.values())
        return {status: statuses.count(status) for status in sorted(set(statuses))}

    def last(self, number: int | None, everything: bool) -> list[dict[str, Any]]:
        """The rows of the last edits by id, ascending. number: how many; None for all. everything: also superseded and deleted ones."""
        edits = [edit for edit, status in self.state.statuses.items() if everything or status in ("active", "disabled")]
        return [self.state.row(edit) for edit in (edits if number is None else edits[-number:])]

    def rows(self) -> list[dict[str, Any]]:
        """All edits' rows, whatever their status, by id."""
        return [self.state.row(edit) for edit in self.state.entries]

    def at(self, to: int | str) -> State:
        """What the edits were after edit `to` (an id) was made, or at a time; see `past_state`. Raises ValueError as it."""
        return past_state(self.state, self._history, to, self)
