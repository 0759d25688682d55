"""The ledger: one row an edit, in SQLite, for people and programs to query. The log is the truth; the ledger follows it."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from ..base import files
from ..journal.edit_record import FIELDS

FILE = "ledger.sqlite"
COLUMNS = FIELDS
_JSON = ("supersedes", "tags", "metadata", "rephrasings", "not_prompts")
_TYPES = {"id": "INTEGER PRIMARY KEY", "loss": "REAL", "steps": "INTEGER", "seconds": "REAL", "nearest": "INTEGER", "overlap": "REAL",
          "seq": "INTEGER NOT NULL"}  # fmt: skip
_TABLES = f"""
CREATE TABLE IF NOT EXISTS edits ({", ".join(f"{name} {_TYPES.get(name, 'TEXT NOT NULL')}" for name in COLUMNS)});
CREATE INDEX IF NOT EXISTS by_status ON edits (status);
CREATE TABLE IF NOT EXISTS log (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL);
"""


class Ledger:
    """Opened by the writer; `acknowledged` is the last record of the log that it knows. Raises sqlite3.Error for a damaged file."""

    def __init__(self, folder: Path):
        self.path = folder / FILE
        self._connection = _connect(self.path)
        try:
            if self._connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("quick_check failed")
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")  # the log is flushed before; the ledger can follow it
            self._connection.executescript(_TABLES)
            self._add_columns()
            row = self._connection.execute("SELECT seq FROM log").fetchone()
        except BaseException:
            self.close()
            raise
        self.acknowledged = row[0] if row else 0

    def _add_columns(self) -> None:
        """Columns that a ledger of an earlier version lacks, with their defaults."""
        known = {row[1] for row in self._connection.execute("PRAGMA table_info(edits)")}
        for name in COLUMNS:
            if name not in known:
                empty = "[]" if name in _JSON else ""
                self._connection.execute(f"ALTER TABLE edits ADD COLUMN {name} TEXT NOT NULL DEFAULT '{empty}'")

    def put(self, rows: list[dict[str, Any]], seq: int, everything: bool = False) -> None:
        """Insert or replace the edits' rows, all of them or none, up to record `seq`. everything: these rows are the whole ledger."""
        marks = ",".join("?" * len(COLUMNS))
        values = [tuple(_cell(name, row[name]) for name in COLUMNS) for row in rows]
        with self._connection:
            if everything:
                self._connection.execute("DELETE FROM edits")
            self._connection.executemany(f"INSERT OR REPLACE INTO edits ({','.join(COLUMNS)}) VALUES ({marks})", values)
            self._connection.execute("INSERT OR REPLACE INTO log VALUES (1, ?)", (seq,))
        self.acknowledged = seq

    def rows(self) -> list[dict[str, Any]]:
        """All rows, by id."""
        return _rows(self._connection)

    def close(self) -> None:
        """Close the database; nothing happens when it is closed."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


def acknowledged(folder: Path) -> int:
    """The last record that the ledger knows, for readers; 0 where there is no ledger that can be read."""
    path = folder / FILE
    if not path.is_file() or path.is_symlink():
        return 0
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)
        ) as connection:
            return int(connection.execute("SELECT seq FROM log").fetchone()[0])
    except (sqlite3.Error, TypeError, ValueError):
        return 0


def set_aside(folder: Path) -> None:
    """Rename a ledger that SQLite cannot read; the next one is made from the log."""
    for end in ("", "-wal", "-shm"):
        path = folder / (FILE + end)
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, folder / f"{FILE}.damaged{end}")


def _connect(path: Path) -> sqlite3.Connection:
    for end in ("", "-wal", "-shm"):
        side = path.with_name(path.name + end)
        if side.exists() or side.is_symlink():
            os.close(files.open_regular(side, os.O_RDONLY))  # refuses links
    connection = sqlite3.connect(path, timeout=10, check_same_thread=False)
    connection.execute("PRAGMA trusted_schema=OFF")
    return connection


def _rows(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    rows = []
    for values in connection.execute(f"SELECT {','.join(COLUMNS)} FROM edits ORDER BY id"):
        row = dict(zip(COLUMNS, values, strict=True))
        rows.append({name: json.loads(value) if name in _JSON else value for name, value in row.items()})
    return rows


def _cell(name: str, value: Any) -> Any:
    if name in _JSON:
        return json.dumps(value, ensure_ascii=True, sort_keys=True)
    # Half a surrogate pair is text to Python, but not to SQLite.
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def as_stored(row: dict[str, Any]) -> dict[str, Any]:
    """A row as `rows` gives it back."""
    return {name: row[name] if name in _JSON else _cell(name, row[name]) for name in COLUMNS}
