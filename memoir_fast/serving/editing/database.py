"""Opens the queue's SQLite file. SQLite acts on what it finds, so a file is used only if it is the one that this library makes."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from ...base import files
from ...errors import brief

SCHEMA = (
    "CREATE TABLE about (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL, name TEXT NOT NULL, store TEXT NOT NULL)",
    "CREATE TABLE proposals (id INTEGER PRIMARY KEY AUTOINCREMENT, status TEXT NOT NULL, fact TEXT NOT NULL, digest TEXT NOT NULL, "
    "proposed_by TEXT NOT NULL, proposed_at TEXT NOT NULL, request TEXT, decided_by TEXT, decided_at TEXT, turn INTEGER, edit INTEGER, "
    "result TEXT NOT NULL, reason TEXT NOT NULL, finished_at TEXT)",
    "CREATE UNIQUE INDEX by_request ON proposals (proposed_by, request)",
    "CREATE INDEX by_status ON proposals (status)",
    "CREATE TABLE acts (id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, edits TEXT NOT NULL, "
    "seq INTEGER NOT NULL, proposal INTEGER, reason TEXT NOT NULL DEFAULT '')",
)  # fmt: skip
VERSION = 2
# Of version 1: its last table, and what makes it this version's.
_BEFORE = (*SCHEMA[:-1], SCHEMA[-1].replace(", proposal INTEGER, reason TEXT NOT NULL DEFAULT ''", ""))
_UPGRADE = (
    "ALTER TABLE acts ADD COLUMN proposal INTEGER",
    "ALTER TABLE acts ADD COLUMN reason TEXT NOT NULL DEFAULT ''",
    "UPDATE about SET version = 2",
)
_SQLITES_OWN = ("sqlite_sequence",)  # SQLite makes it for AUTOINCREMENT


def open_database(path: Path) -> sqlite3.Connection:
    """A connection to the file, which is made if there is none; only its user may read it. Any thread may use it, one at a time.

    Raises:
        ValueError: something else stands in the file's place, or it is damaged. OSError: it cannot be written.
    """
    for end in ("", "-wal", "-shm"):
        side = path.with_name(path.name + end)
        if not end or side.exists() or side.is_symlink():
            descriptor = files.open_regular(side, os.O_RDWR | (0 if end else os.O_CREAT))
            os.fchmod(descriptor, 0o600)
            os.close(descriptor)
    journal = path.with_name(f"{path.name}-journal")
    if journal.exists() or journal.is_symlink():
        raise ValueError(f"{path}: {journal.name} lies beside it, which this library never leaves there: move it away")
    connection = sqlite3.connect(path, timeout=10, check_same_thread=False, isolation_level=None)
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        made = _version_made(connection)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # what was acknowledged is on the disk
        if made and connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("quick_check failed")
        if made < VERSION:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _UPGRADE if made else SCHEMA:
                connection.execute(statement)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        connection.close()
        raise ValueError(
            f"{path}: is no queue of this service, or is damaged ({brief(error)}): put it back from a copy, or move it away (proposals that "
            "wait in it are lost then; stored edits are not)"
        ) from None
    return connection


def _version_made(connection: sqlite3.Connection) -> int:
    """Which version of ours a database is; 0 if it is empty. Raises sqlite3.DatabaseError for another's."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master LIMIT 20").fetchall()
    found = sorted(" ".join(str(sql).split()) for name, sql in rows if name not in _SQLITES_OWN)
    if not rows:
        return 0
    for version, schema in ((VERSION, SCHEMA), (1, _BEFORE)):
        if found == sorted(" ".join(one.split()) for one in schema):
            if version == 1 and connection.execute("SELECT version FROM about WHERE version != 1").fetchone():
                break
            return version
    raise sqlite3.DatabaseError("its tables are not those that this library makes")
