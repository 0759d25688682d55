"""The ledger: one row per edit, in SQLite, for people and programs to query. The log is the truth; the ledger follows
it.

Opening an SQLite file can do more than read it: SQLite rolls back a journal that lies beside it, deletes the files the
journal names, and runs views and triggers. So a ledger is read only if its schema is one that this library writes, and
never beside a rollback journal, which this library never leaves behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base import files
from ..base.json_text import parse
from ..errors import CutOff, Damaged, brief
from ..journal.edit_record import FIELDS

FILE = "ledger.sqlite"
COLUMNS = FIELDS
_JSON = ("supersedes", "tags", "metadata", "rephrasings", "not_prompts")
_TYPES = {"id": "INTEGER PRIMARY KEY", "loss": "REAL", "steps": "INTEGER", "seconds": "REAL", "nearest": "INTEGER", "overlap": "REAL",
          "seq": "INTEGER NOT NULL"}  # fmt: skip
_FIRST = COLUMNS[: COLUMNS.index("seq") + 1]  # the columns of format version 1


def _edits(columns: tuple[str, ...]) -> str:
    return "CREATE TABLE edits (" + ", ".join(f"{name} {_TYPES.get(name, 'TEXT NOT NULL')}" for name in columns) + ")"


_INDEX = "CREATE INDEX by_status ON edits (status)"
_LOG = "CREATE TABLE log (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL"
_NAMED = f"{_LOG}, store TEXT NOT NULL"
_PLACE = "file TEXT NOT NULL, end INTEGER NOT NULL, scale REAL NOT NULL"
_SCHEMA = (_edits(COLUMNS), _INDEX, f"{_NAMED}, {_PLACE})")
# The schemas of earlier versions: 3 and 4; 2; 1; and 1 with columns added by a later version.
_ADDED = "".join(f", {name} TEXT NOT NULL DEFAULT '{'[]' * (name in _JSON)}'" for name in COLUMNS[len(_FIRST) :])
_EARLIER = [
    (_edits(COLUMNS), _INDEX, f"{_NAMED})"),
    *((first, _INDEX, f"{_LOG})") for first in (_edits(COLUMNS), _edits(_FIRST), f"{_edits(_FIRST)[:-1]}{_ADDED})")),
]
_SIDES = ("", "-wal", "-shm")
_LIMIT_LENGTH = 0  # SQLite's number for the limit on a cell's bytes (SQLITE_LIMIT_LENGTH)
_LONGEST = 128 << 20  # bytes per cell; twice the largest header of a record


@dataclass(frozen=True)
class Place:
    """Where the log ends that a ledger's rows are those of. By it a reader sees that it need not read the log.

    Attributes:
        file: the name of the last segment; "" where the rows are ahead of the records that are known to be on disk.
        end: its bytes.
        scale: the memory's scale then.
    """

    file: str = ""
    end: int = 0
    scale: float = 1.0


class Ledger:
    """A store's ledger, opened by its writer.

    Args:
        folder: the store's.
        name: the store's name.

    Raises:
        sqlite3.Error: the file is damaged or was not written by this library.
        ValueError: a link or a pipe is in the place of one of its files.

    Attributes:
        acknowledged: the number of the last record that the ledger knows.
        store: the name of the store that wrote it, "" for none.
        place: where the log ended then.
        outdated: an earlier version wrote it, and its rows were dropped.
    """

    def __init__(self, folder: Path, name: str):
        self.path, self.name = folder / FILE, name
        check_sides(self.path)
        self._connection = connect(str(self.path))
        try:
            with limited(self._connection, self.path):
                found = schema_of(self._connection)
                if self._connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                    raise sqlite3.DatabaseError("quick_check failed")
                self.acknowledged, self.store, self.place = (
                    known(self._connection, found) if found else (0, "", Place())
                )
                self.outdated = bool(found) and found != _plain(_SCHEMA)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")  # enough, for the log can rebuild the ledger
            if found != _plain(_SCHEMA):
                self._make(found is not None)
        except BaseException:
            self.close()
            raise

    def _make(self, anew: bool) -> None:
        """Make the tables, replacing an earlier version's; the number of its last record is kept."""
        dropped = ["DROP INDEX by_status", "DROP TABLE edits", "DROP TABLE log"] if anew else []
        connection = self._connection
        connection.execute("BEGIN")
        with connection:
            for statement in (*dropped, *_SCHEMA):
                connection.execute(statement)
            connection.execute("INSERT INTO log VALUES (1, ?, ?, '', 0, 1.0)", (self.acknowledged, self.store))

    def put(self, rows: list[dict[str, Any]], seq: int, place: Place, everything: bool = False) -> None:
        """Insert or replace edits' rows, all or none. Raises sqlite3.Error.

        Args:
            rows: the edits' rows.
            seq: the last record that the ledger then knows.
            place: where the log ends, if that is the record `seq`, and the rows are then those of the log.
            everything: these rows are the whole ledger; others are deleted.
        """
        marks = ",".join("?" * len(COLUMNS))
        values = [tuple(_cell(name, row[name]) for name in COLUMNS) for row in rows]
        with self._connection:
            if everything:
                self._connection.execute("DELETE FROM edits")
            self._connection.executemany(f"INSERT OR REPLACE INTO edits ({','.join(COLUMNS)}) VALUES ({marks})", values)
            values_of_log = (seq, self.name, place.file, place.end, place.scale)
            self._connection.execute("INSERT OR REPLACE INTO log VALUES (1, ?, ?, ?, ?, ?)", values_of_log)
        self.acknowledged, self.store, self.place, self.outdated = seq, self.name, place, False

    def rows(self) -> list[dict[str, Any]]:
        """All rows, ascending by id. Raises sqlite3.Error or ValueError for a damaged file."""
        with limited(self._connection, self.path):
            return rows_of(self._connection)

    def holds(self, rows: list[dict[str, Any]]) -> bool:
        """Whether these, ascending by id, are all rows, as a ledger stores them; nothing is parsed. Raises sqlite3.Error."""
        with limited(self._connection, self.path):
            found = self._connection.execute(f"SELECT {','.join(COLUMNS)} FROM edits ORDER BY id").fetchall()
        return len(found) == len(rows) and all(
            kept == tuple(_cell(name, row[name]) for name in COLUMNS) for kept, row in zip(found, rows, strict=True)
        )

    def close(self) -> None:
        """Close the database; closing twice is fine."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


def acknowledged(folder: Path, name: str) -> int:
    """For readers: the last record that the ledger knows; 0 if it cannot be read or belongs to another store."""
    path = folder / FILE
    try:
        check_sides(path)
        if not path.is_file():
            return 0
        with contextlib.closing(connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            with limited(connection, path):
                found = schema_of(connection)
                seq, store, _ = known(connection, found) if found else (0, "", None)
                return seq if store in ("", name) else 0
    except (sqlite3.Error, ValueError, OSError):
        return 0


def open_ledger(folder: Path, name: str, report: list[str]) -> tuple[Ledger, type[Damaged]]:
    """For the writer: the ledger of the store with this name. An unusable one is set aside and replaced, and the report
    says so.

    Returns:
        the ledger, and the kind of damage at the log's end that counts as an unfinished write: any `Damaged` if the
        ledger says what was acknowledged, otherwise only `CutOff`.
    """
    known = (folder / FILE).exists()
    try:
        ledger = Ledger(folder, name)
        if ledger.store in ("", name):
            return ledger, Damaged if known else CutOff
        ledger.close()
        why = "is of another store"
    except (sqlite3.Error, UnicodeDecodeError) as error:
        why = f"could not be read ({brief(error)})"
    set_aside(folder)
    report.append(f"{FILE} {why}; it was set aside and made again from the log")
    return Ledger(folder, name), CutOff


def reconcile(ledger: Ledger, rows: list[dict[str, Any]], seq: int, place: Place, report: list[str]) -> Ledger:
    """Make the ledger agree with the log.

    Args:
        rows: what the log says, ascending by id (see `State.row`).
        seq: the log's last record. place: where the log ends.
        report: gets a sentence if the ledger disagreed.

    Returns:
        the ledger, which may be a new one.
    """
    behind = ledger.acknowledged < seq or ledger.outdated or (not ledger.store and bool(ledger.name))
    try:
        same = ledger.holds(rows)
    except (sqlite3.Error, ValueError):
        same = False
    if same and not behind and ledger.place == place:
        return ledger
    if not same and not behind:
        report.append(f"{FILE} disagreed with the log; it was made again from the log")
    try:
        ledger.put([] if same else rows, seq, place, everything=not same)
    except sqlite3.Error:
        ledger.close()
        set_aside(ledger.path.parent)
        ledger = Ledger(ledger.path.parent, ledger.name)
        ledger.put(rows, seq, place, everything=True)
    return ledger


def set_aside(folder: Path) -> None:
    """Rename a ledger that must not be read; a new one is made from the log. Raises ValueError as `files.move`."""
    for end in (*_SIDES, "-journal"):
        with contextlib.suppress(FileNotFoundError):
            files.move(folder / (FILE + end), folder / f"{FILE}.damaged{end}")


def check_sides(path: Path) -> None:
    """Raise ValueError for a link or a pipe in place of a ledger's file, sqlite3.Error for what this library never
    leaves."""
    for end in _SIDES:
        side = path.with_name(path.name + end)
        if side.exists() or side.is_symlink():
            os.close(files.open_regular(side, os.O_RDONLY))
    journal = path.with_name(f"{path.name}-journal")
    if journal.exists() or journal.is_symlink():
        raise sqlite3.DatabaseError("it has a rollback journal, which this library never leaves behind")
    logs = sum(part.lstat().st_size for part in path.parent.glob("log-*.bin"))
    if path.exists() and path.stat().st_size > (16 << 20) + 4 * logs:  # the log holds everything that its rows hold
        raise sqlite3.DatabaseError("it is larger than the log's edits can make it")


def connect(database: str, uri: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(database, timeout=10, check_same_thread=False, uri=uri)
    if hasattr(connection, "setlimit"):  # from Python 3.11 on
        connection.setlimit(_LIMIT_LENGTH, _LONGEST)
    connection.execute("PRAGMA trusted_schema=OFF")
    return connection


@contextlib.contextmanager
def limited(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Limit SQLite to the work that a ledger of this size can need; beyond that it raises sqlite3.OperationalError."""
    left = 2000 + path.stat().st_size // 1000 if path.exists() else 2000

    def spent() -> int:
        nonlocal left
        left -= 1
        return int(left < 0)

    connection.set_progress_handler(spent, 10_000)  # instructions of SQLite's virtual machine
    try:
        yield
    finally:
        with contextlib.suppress(sqlite3.Error):
            connection.set_progress_handler(None, 0)


def _plain(statements: tuple[str, ...]) -> tuple[str, ...]:
    """Schema statements with blanks normalised, sorted."""
    return tuple(sorted(" ".join(statement.split()) for statement in statements))


def schema_of(connection: sqlite3.Connection) -> tuple[str, ...] | None:
    """The schema's statements, None for an empty database. Raises sqlite3.DatabaseError unless this library wrote
    them."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master LIMIT 10").fetchall()
    if not rows:
        return None
    found = _plain(tuple(str(sql) for _, _, sql in rows))
    kinds = sorted((kind, name) for kind, name, _ in rows)
    known = [_plain(statements) for statements in (_SCHEMA, *_EARLIER)]
    if kinds != [("index", "by_status"), ("table", "edits"), ("table", "log")] or found not in known:
        raise sqlite3.DatabaseError("its tables are not those that this library makes")
    return found


def known(connection: sqlite3.Connection, schema: tuple[str, ...]) -> tuple[int, str, Place]:
    """(number of the last record, name of the store, where the log ended) of a ledger with this schema. Raises sqlite3.DatabaseError."""
    columns = (["seq", "store", "file", "end", "scale"], ["seq", "store"], ["seq"])
    which = 0 if schema == _plain(_SCHEMA) else 1 if schema == _plain(_EARLIER[0]) else 2
    found = connection.execute(f"SELECT {', '.join(columns[which])} FROM log LIMIT 1").fetchone() or (0,)
    values: list[Any] = [*found, *(0, "", "", 0, 1.0)[len(found) :]]
    seq, store, file, end, scale = values
    if type(seq) is not int or not 0 <= seq < 1 << 53 or not isinstance(store, str):
        raise sqlite3.DatabaseError("its last record has no number")
    if not isinstance(file, str) or type(end) is not int or not isinstance(scale, float) or not 0 < scale <= 1:
        raise sqlite3.DatabaseError("it does not say where the log ended")
    return seq, store, Place(file, end, scale)


def is_current(schema: tuple[str, ...] | None) -> bool:
    """Whether a ledger's schema is this version's."""
    return schema == _plain(_SCHEMA)


def rows_of(connection: sqlite3.Connection, condition: str = "", *values: Any) -> list[dict[str, Any]]:
    """The rows that meet an SQL condition ("WHERE ..."), ascending by id unless it says otherwise; each text parsed that is JSON."""
    rows = []
    for cells in connection.execute(f"SELECT {','.join(COLUMNS)} FROM edits {condition or 'ORDER BY id'}", values):
        row = dict(zip(COLUMNS, cells, strict=True))
        rows.append({name: parse(str(value), FILE) if name in _JSON else value for name, value in row.items()})
    return rows


def _cell(name: str, value: Any) -> Any:
    if name in _JSON:
        if not value:
            return "{}" if name == "metadata" else "[]"
        return json.dumps(value, ensure_ascii=True, sort_keys=True)
    if isinstance(value, str) and value.isascii():
        return value
    # Python accepts half a surrogate pair in a text, SQLite does not.
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def as_stored(row: dict[str, Any]) -> dict[str, Any]:
    """A row as `Ledger.rows` gives it back."""
    return {name: row[name] if name in _JSON else _cell(name, row[name]) for name in COLUMNS}
