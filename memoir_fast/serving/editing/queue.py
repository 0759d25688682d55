"""What waits for approval or for its turn, and who did what, in a file: a restart loses nothing that was acknowledged."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...base import files
from ...errors import brief
from ...journal.journal import now
from .changes import BEGINS, Change, wish_from_json
from .database import VERSION, open_database
from .facts import Fact
from .refused import Refused

# A proposal waits for approval, is queued once it is accepted, and ends as one of the others.
WAITING, QUEUED, MADE, FAILED, REJECTED = STATUSES = ("waiting", "queued", "made", "failed", "rejected")
_ALL = 1 << 53
_ACT = "at, who, what, edits, seq, proposal, reason"
_COLUMNS = "id, status, fact, proposed_by, proposed_at, decided_by, decided_at, edit, result, reason, finished_at"


@dataclass(frozen=True)
class Proposal:
    """A proposed edit, or change of stored ones, and what became of it.

    Attributes:
        id: its number; status: one of `STATUSES`; wish: what is to be edited or changed.
        proposed_by, decided_by: names of keys; proposed_at, decided_at, finished_at: ISO 8601, UTC.
        edit: the stored edit that was made or changed, once that is done. result: what making an edit told, see `EditResult`; of a change that was
            made {"seq": the store's record of it}; of what failed {"code": HTTP status}.
        reason: why it was rejected or failed, or what a person should know.
    """

    id: int
    status: str
    wish: Fact | Change
    proposed_by: str
    proposed_at: str
    decided_by: str | None = None
    decided_at: str | None = None
    edit: int | None = None
    result: dict[str, Any] | None = None
    reason: str = ""
    finished_at: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether something is still to happen."""
        return self.status in (WAITING, QUEUED)


@dataclass(frozen=True)
class Act:
    """Something that a person did to stored edits: at, who, what, to which edits, and the store's record of it.

    Attributes:
        proposal: the number of the proposal that asked for it, None where nobody had to be asked; reason: why, in the words of whoever asked.
    """

    at: str
    who: str
    what: str
    edits: list[int]
    seq: int
    proposal: int | None = None
    reason: str = ""


class Queue:
    """The queue's file.

    Args:
        path: of the file, made if it does not exist; store: the name of the store that it belongs to.

    Attributes:
        name: drawn when the file was made. An edit's metadata names queue and proposal, so that no proposal is made twice.

    Raises:
        ValueError: the file is not a queue, or is another store's. OSError: it cannot be written.
    """

    def __init__(self, path: Path, store: str):
        self.path = path
        self._lock = threading.RLock()
        self._connection = open_database(path)
        row = self._row("SELECT version, name, store FROM about")
        if row is None:
            row = (VERSION, secrets.token_hex(8), store)
            self._write("INSERT INTO about VALUES (1, ?, ?, ?)", row)
            files.sync_folder(path.parent)
        version, self.name, its = row
        if version != VERSION or its not in ("", store):
            self.close()
            why = f"has version {version}, not {VERSION}" if version != VERSION else "belongs to another store"
            raise ValueError(f"--queue {path}: {why}: give another file")
        try:
            for one in self.newest((WAITING, QUEUED), None, _ALL):
                one.wish.checked()
        except (Refused, ValueError, TypeError) as error:
            self.close()
            raise ValueError(
                f"--queue {path}: a proposal in it is damaged ({brief(error)}): put the file back from a copy, or give another one"
            ) from None

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        with self._lock:
            self._connection.close()

    # ---- proposals -----------------------------------------------------------------------------------------------

    def known(self, wish: Fact | Change, by: str, request: str | None) -> Proposal | None:
        """The proposal that a request made, if it was taken in before. request: its idempotency key, None for none.

        Raises:
            Refused: the idempotency key was used for something else.
        """
        if request is None:
            return None
        row = self._row("SELECT id, digest FROM proposals WHERE proposed_by = ? AND request = ?", (by, request))
        if row is not None and row[1] != wish.digest:
            raise Refused(422, f"Idempotency-Key: it was used for another request (proposal {row[0]}): take a new one")
        return None if row is None else self.get(row[0])

    def add(
        self, wish: Fact | Change, by: str, accepted: bool, request: str | None, most: int
    ) -> tuple[Proposal, bool]:
        """Take in a proposal; once this returns it is on the disk.

        Args:
            wish: checked; by: whose key it came with; accepted: it need not wait for approval.
            request: the client's idempotency key, None for none; most: how many may be open.

        Returns:
            the proposal, and whether it is new: a request that was taken in before is told again.

        Raises:
            Refused: the idempotency key was used for something else, or the queue is full.
        """
        with self._lock:
            known = self.known(wish, by, request)
            if known is not None:
                return known, False
            if self.count((WAITING, QUEUED)) >= most:
                raise Refused(503, f"the queue is full: {most} proposals are open. Approve or reject some, or ask again later", wait=30)  # fmt: skip
            at = now()
            decided = (by, at, self._turn()) if accepted else (None, None, None)
            status = QUEUED if accepted else WAITING
            cursor = self._write(
                "INSERT INTO proposals (status, fact, digest, proposed_by, proposed_at, request, decided_by, decided_at, turn, result, reason) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'null', '')",
                (status, wish.to_json(), wish.digest, by, at, request, *decided),
            )  # fmt: skip
            return self.get(int(cursor.lastrowid or 0)), True

    def get(self, number: int) -> Proposal:
        """One proposal. Raises Refused where there is none of this number."""
        row = self._row(f"SELECT {_COLUMNS} FROM proposals WHERE id = ?", (number,)) if 0 <= number < _ALL else None
        if row is None:
            raise Refused(404, f"there is no proposal {number}: GET /memoir/proposals lists them")
        return _proposal(row)

    def newest(self, statuses: Sequence[str], before: int | None, limit: int) -> list[Proposal]:
        """The newest proposals with one of some statuses (all, if none is named), and with numbers below `before`."""
        wanted = tuple(statuses) or STATUSES
        marks = ",".join("?" * len(wanted))
        with self._lock:
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM proposals WHERE status IN ({marks}) AND id < ? ORDER BY id DESC LIMIT ?",
                (*wanted, _ALL if before is None else before, limit),
            ).fetchall()
        return [_proposal(row) for row in rows]

    def count(self, statuses: Sequence[str]) -> int:
        """How many proposals have one of some statuses."""
        marks = ",".join("?" * len(statuses))
        row = self._row(f"SELECT count(*) FROM proposals WHERE status IN ({marks})", tuple(statuses))
        return int(row[0]) if row else 0

    def decide(self, number: int, by: str, approved: bool, reason: str = "") -> Proposal:
        """Approve or reject a proposal that waits. Raises Refused for one that does not."""
        with self._lock:
            known = self.get(number)
            if known.status != WAITING:
                raise Refused(409, f"proposal {number} is {known.status}, it does not wait for approval any more")
            at = now()
            if approved:
                self._write("UPDATE proposals SET status = ?, decided_by = ?, decided_at = ?, turn = ?, reason = ? WHERE id = ?",
                            (QUEUED, by, at, self._turn(), reason, number))  # fmt: skip
            else:
                self._write("UPDATE proposals SET status = ?, decided_by = ?, decided_at = ?, finished_at = ?, reason = ? WHERE id = ?",
                            (REJECTED, by, at, at, reason, number))  # fmt: skip
            return self.get(number)

    def next(self) -> Proposal | None:
        """The proposal whose turn it is, changes before edits; it stays in the queue until `finish`."""
        row = self._row(f"SELECT {_COLUMNS} FROM proposals WHERE status = ? ORDER BY fact NOT LIKE '{BEGINS}%', turn LIMIT 1", (QUEUED,))  # fmt: skip
        return None if row is None else _proposal(row)

    def finish(self, number: int, edit: int | None, result: dict[str, Any] | None, reason: str = "", failed: bool = False) -> Proposal:  # fmt: skip
        """Say what became of an accepted proposal. reason: what a person should know; without one, whoever approved is left with the last word."""
        with self._lock:
            self._write("UPDATE proposals SET status = ?, edit = ?, result = ?, reason = CASE ? WHEN '' THEN reason ELSE ? END, finished_at = ? WHERE id = ?",
                        (FAILED if failed else MADE, edit, json.dumps(result), reason, reason, now(), number))  # fmt: skip
            return self.get(number)

    # ---- acts ----------------------------------------------------------------------------------------------------

    def note(self, who: str, what: str, edits: Sequence[int], seq: int, proposal: int | None = None, reason: str = "") -> int:  # fmt: skip
        """Keep who does what to which edits, before it is done; returns the act's number. seq: the record that it will be; the rest as in `Act`."""
        with self._lock:
            cursor = self._write("INSERT INTO acts (at, who, what, edits, seq, proposal, reason) VALUES (?, ?, ?, ?, ?, ?, ?)",
                                 (now(), who, what, json.dumps(list(edits)), seq, proposal, reason))  # fmt: skip
            return int(cursor.lastrowid or 0)

    def forget(self, act: int) -> None:
        """Take back an act that was not done after all."""
        self._write("DELETE FROM acts WHERE id = ?", (act,))

    def forget_after(self, seq: int) -> None:
        """Take back the acts whose records the store does not have, because the process was killed before it wrote them."""
        self._write("DELETE FROM acts WHERE seq > ?", (seq,))

    def acts(self) -> list[Act]:
        """All acts, in order."""
        with self._lock:
            rows = self._connection.execute(f"SELECT {_ACT} FROM acts ORDER BY id").fetchall()
        return [_act(row) for row in rows]

    def done(self, number: int, seq: int) -> Act | None:
        """What was done at the request of a proposal, None if nothing was. seq: of the store's last record; acts beyond it were not done."""
        self.forget_after(seq)
        row = self._row(f"SELECT {_ACT} FROM acts WHERE proposal = ?", (number,))
        return None if row is None else _act(row)

    # ---- parts ---------------------------------------------------------------------------------------------------

    def _turn(self) -> int:
        row = self._row("SELECT max(turn) FROM proposals")
        return 1 + (row[0] or 0 if row else 0)

    def _row(self, statement: str, values: tuple[Any, ...] = ()) -> tuple[Any, ...] | None:
        with self._lock:
            found: tuple[Any, ...] | None = self._connection.execute(statement, values).fetchone()
            return found

    def _write(self, statement: str, values: tuple[Any, ...]) -> sqlite3.Cursor:
        """One change, on the disk when this returns. Raises Refused where the disk does not take it."""
        with self._lock:
            try:
                return self._connection.execute(statement, values)
            except sqlite3.Error as error:
                raise Refused(
                    503, f"{self.path.name}: writing failed ({error}); nothing was taken in", wait=5
                ) from error


def _proposal(row: tuple[Any, ...]) -> Proposal:
    number, status, fact, *rest = row
    by, at, decided_by, decided_at, edit, result, reason, finished = rest
    return Proposal(number, status, wish_from_json(fact), by, at, decided_by, decided_at, edit, json.loads(result), reason, finished)  # fmt: skip


def _act(row: tuple[Any, ...]) -> Act:
    at, who, what, edits, *rest = row
    return Act(at, who, what, json.loads(edits), *rest)
