"""A store's edits as its ledger knows them, which takes the same time whatever their number; or from the log, where the ledger does not know all
of it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from . import ledger
from .catalog import Catalog
from .log import segments
from .manifest import CONFIG, Manifest, check_snapshots

Found = TypeVar("Found")
_TEXTS = ("prompt", "target", "author", "created", "status", "subject", "key")
_LISTS = ("supersedes", "tags", "rephrasings", "not_prompts")


class Listing:
    """For whoever looks at some edits, or only counts them: what `Catalog` says, of a ledger that says where the log ends and is right about it.

    Nothing of the log is read, so damage in it is not found: `Store.verify` reads everything. Use it in a `with` block, inside which it stays
    as it was.

    Args:
        folder: the store's.

    Raises:
        ValueError: there is no store, or its `config.json` is damaged.
        sqlite3.Error: the ledger is missing or damaged, is another store's or an earlier version's, or does not know all of the log.
    """

    def __init__(self, folder: Path):
        self.folder, self.report = folder, list[str]()
        if not (folder / CONFIG).exists():
            raise ValueError(f"{folder}: there is no store in this folder ({CONFIG} is missing)")
        self.manifest = Manifest.load(folder)
        path = folder / ledger.FILE
        ledger.check_sides(path)
        if not path.is_file():
            raise sqlite3.DatabaseError("there is none")
        self._connection = ledger.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            self._begin(path)
        except BaseException:
            self._connection.close()
            raise

    def _begin(self, path: Path) -> None:
        """See one state of the ledger from now on, and check that it is that of the log."""
        self._connection.execute("BEGIN")
        with ledger.limited(self._connection, path):
            schema = ledger.schema_of(self._connection)
            if schema is None or not ledger.is_current(schema):
                raise sqlite3.DatabaseError("an earlier version wrote it")
            self.seq, name, place = ledger.known(self._connection, schema)
        parts = segments(self.folder)
        last = parts[-1][1] if parts else None
        if name != self.manifest.store or last is None or parts[0][0] != 1:
            raise sqlite3.DatabaseError("it is of another store, or a segment of the log is missing")
        if last.is_symlink() or (last.name, last.lstat().st_size) != (place.file, place.end):
            raise sqlite3.DatabaseError("it does not know all of the log")
        check_snapshots(self.folder, self.seq, self.manifest)
        self.scale = place.scale

    def __enter__(self) -> Listing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def __str__(self) -> str:
        return str(self.folder)

    def counts(self) -> dict[str, int]:
        """How many edits have each status, by its name; those that none has are left out."""
        found = self._connection.execute("SELECT status, COUNT(*) FROM edits GROUP BY status ORDER BY status")
        return {str(status): int(number) for status, number in found}

    def row(self, edit: int) -> dict[str, Any]:
        """An edit's row, see `EditRecord.row`. Raises ValueError where there is no such edit."""
        rows = self._rows("WHERE id = ?", edit)
        if not rows:
            raise ValueError(f"there is no edit {edit} in {self}")
        return rows[0]

    def last(self, number: int | None, everything: bool) -> list[dict[str, Any]]:
        """The rows of the last edits by id, ascending. number: how many; None for all. everything: also superseded and deleted ones."""
        # The plus keeps SQLite from the index by status, which would have it sort all of these edits.
        which = "" if everything else "WHERE +status IN ('active', 'disabled') "
        return self._rows(f"{which}ORDER BY id DESC LIMIT ?", -1 if number is None else number)[::-1]

    def _rows(self, condition: str, *values: Any) -> list[dict[str, Any]]:
        """Rows, checked: a ledger that somebody has changed may hold anything."""
        rows = ledger.rows_of(self._connection, condition, *values)
        for row in rows:
            sound = all(isinstance(row[name], str) for name in _TEXTS) and isinstance(row["metadata"], dict)
            if not sound or not all(isinstance(row[name], list) for name in _LISTS) or type(row["id"]) is not int:
                raise sqlite3.DatabaseError("a row holds what no edit has")
        return rows


def look(folder: str | Path, ask: Callable[[Listing | Catalog], Found]) -> Found:
    """What somebody asks of a store: answered by its ledger if that knows all of the log, otherwise by the log.

    Args:
        folder: the store's.
        ask: gathers the answer, and does nothing else: it may be called twice.

    Raises:
        ValueError: as `Catalog`, or what `ask` raises.
    """
    with contextlib.suppress(sqlite3.Error, OSError, ValueError):  # what is wrong is told by whoever reads the log
        with Listing(Path(folder)) as listing:
            return ask(listing)
    return ask(Catalog(folder))
