"""A store: a folder that keeps a memory through crashes, with every edit's own update, so that edits can be taken back.

    config.json          settings, the base model's fingerprint, the newest snapshots; under a checksum
    base.safetensors     permutation, background, calibration signatures; never changes
    snapshot-<seq>       V, C and signatures after record <seq>
    log-<seq>.bin        the records from <seq> on; the last segment is live, the others are the archive
    ledger.sqlite        one row an edit, for queries; made from the log

One writer holds a lock; readers need none. A record is on the disk before its edit counts as made.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import sqlite3
import warnings
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from ..config import MemoirConfig
from ..errors import ConflictError, CutOff, Damaged, StoreError
from ..memory.residual import ResidualMemory
from ..memory.selection import check_tags
from ..memory.update import Update
from . import files, manifest
from .ledger import FILE, Ledger, acknowledged, as_stored, set_aside
from .log import History, Writer, scan, segment_path, segments
from .manifest import BASE, CONFIG, Manifest, Snapshot
from .record import DTYPES, Entry, edit_body, encode
from .state import State
from .verify import verify

CONFLICTS = ("supersede", "keep", "reject")
DURABILITIES = ("edit", "batch")


class Store:
    """One opened store.

    Args:
        folder: an existing store, see `create`.
        writer: take the lock and be able to edit; otherwise only `refresh` changes anything.
        durability: "edit": an edit counts as made once its record is on the disk; "batch": only after `flush` or `close`,
            in exchange for one flush for many edits.
        compact_bytes: size of the live log at which it is compacted by itself.

    Attributes:
        memory: the residual memory; edits: details of the active edits, by id.
        report: what opening had to repair, as sentences; empty when nothing.

    Raises:
        ValueError: a file is missing, damaged, or not what it should be; the message names file and field.
        StoreError: another process is writing.
    """

    def __init__(self, folder, writer: bool = False, durability: str = "edit", compact_bytes: int = 256 << 20):
        if durability not in DURABILITIES:
            raise ValueError(f"durability must be one of {DURABILITIES}, got {durability!r}")
        self.folder, self.durability, self.compact_bytes = Path(folder), durability, compact_bytes
        self.report: list[str] = []
        self._log: Writer | None = None
        self._ledger: Ledger | None = None
        self._lock: FileLock | None = None
        # What the log may end with and be no loss: anything, where the ledger says what was acknowledged.
        self._torn = CutOff
        self._rebuilt = 0  # the state's count of changes when C was last made from the records
        if not (self.folder / CONFIG).exists():
            raise ValueError(f"{self.folder}: there is no store in this folder ({CONFIG} is missing)")
        try:
            if writer:
                self._take_lock()
                self._open_ledger()
            self.manifest = Manifest.load(self.folder)
            self._make_memory()
            # Asked before the log is read: what the ledger knows is in the log.
            known_to = self._ledger.acknowledged if writer else acknowledged(self.folder)
            self._history = History(self.folder, known_to, self._torn, self.report if writer else None)
            self._load()
            if self.state.seq < known_to:
                raise Damaged(
                    f"{self.folder}: the log ends at record {self.state.seq}, but {known_to} records were acknowledged: a "
                    "segment is missing or cut short. Put it back from a copy"
                )
            if writer:
                self._reconcile()
        except BaseException:
            self.close()
            raise

    # ---- making, opening, closing --------------------------------------------------------------------------------

    @classmethod
    def create(cls, folder, config, fingerprint: dict, contexts: list[str], memory: ResidualMemory, calibration,
               conflict: str = "supersede", conflict_threshold: float = 0.95, record_dtype: str = "float32", **settings) -> Store:  # fmt: skip
        """Make an empty store and open it for writing.

        Args:
            config, fingerprint, contexts, calibration: as a `MemoirModel` has them; memory: its empty memory.
            conflict: what becomes of a stored edit of the same prompt (overlap >= `conflict_threshold`) with another target:
                "supersede" it, "keep" both, or "reject" the new one.
            record_dtype: "float32", or "bfloat16" for logs of half the size; V is then written from the rounded values.
            settings: as for `Store`.
        """
        for name, value, legal in (("conflict", conflict, CONFLICTS), ("record_dtype", record_dtype, tuple(DTYPES))):
            if value not in legal:
                raise ValueError(f"{name} must be one of {legal}, got {value!r}")
        if not isinstance(conflict_threshold, (int, float)) or not 0 < conflict_threshold <= 1:
            raise ValueError(f"conflict_threshold must be in (0, 1], got {conflict_threshold!r}")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = {BASE, f"{BASE}.part", f"{CONFIG}.part"}  # of a store whose making was cut short
        if not {path.name for path in folder.iterdir()} <= unfinished:
            raise ValueError(f"{folder}: the folder of a new store must be empty")
        if len(memory) or bool(memory.V.any()):
            raise ValueError("memory: a store begins with an empty memory, for every later edit must be in its log")
        base = {"permutation": memory.permutation, "background": memory.background, "calibration": calibration}
        stored = manifest.write_tensors(folder / BASE, base)
        Manifest(config=config, fingerprint=fingerprint, contexts=list(contexts), base=stored,
                 permutation=manifest.permutation_digest(memory.permutation), conflict=conflict,
                 conflict_threshold=float(conflict_threshold), record_dtype=record_dtype).save(folder)  # fmt: skip
        return cls(folder, writer=True, **settings)

    def adopt(self, memory: ResidualMemory) -> None:
        """Write into the memory that the store was made from, instead of an own one."""
        self.memory = self.state.memory = memory

    def configure(self, config: MemoirConfig) -> None:
        """Keep changed settings (those that did not shape the memory)."""
        self._writer()
        self.manifest = replace(self.manifest, config=config)
        self.manifest.save(self.folder)

    def close(self) -> None:
        """Flush, and give the lock back."""
        try:
            if self._log is not None and not self._log.broken and self.durability == "batch":
                self.flush()
        finally:
            for part in (self._log, self._ledger):
                if part is not None:
                    part.close()
            self._log = self._ledger = None
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    @property
    def edits(self) -> dict[int, dict]:
        return self.state.edits

    def ledger_rows(self) -> list[dict]:
        """The ledger's rows; for the writer."""
        self._writer()
        return self._ledger.rows()

    @property
    def is_writer(self) -> bool:
        return self._lock is not None

    def _take_lock(self) -> None:
        # The operating system drops the lock with its process, however that ends: no lock is ever stale.
        lock = FileLock(self.folder / "lock", timeout=0, thread_local=False)
        owner = self.folder / "writer.json"
        try:
            lock.acquire()
        except Timeout:
            try:
                who = json.loads(files.read(owner))
                known = f"{who['user']} on {who['host']}, process {who['pid']}, since {who['since']}"
            except (ValueError, KeyError, TypeError, OSError):
                known = "unknown"
            raise StoreError(
                f"{self.folder}: another process is writing ({known}). Open the store for reading, or wait for it to end"
            ) from None
        self._lock = lock
        values = {"user": _user(), "host": socket.gethostname(), "pid": os.getpid(), "since": _now()}
        for leftover in self.folder.glob("*.part"):
            leftover.unlink()
        files.replace(owner, json.dumps(values).encode())

    def _open_ledger(self) -> None:
        self._torn = Damaged if (self.folder / FILE).exists() else CutOff
        try:
            self._ledger = Ledger(self.folder)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            set_aside(self.folder)
            self._ledger, self._torn = Ledger(self.folder), CutOff
            self.report.append(
                f"ledger.sqlite could not be read ({error}); it was set aside and made again from the log"
            )

    # ---- loading -------------------------------------------------------------------------------------------------

    def history(self, after: int = 0) -> list[Entry]:
        """The records past number `after`; see `log.History`."""
        return self._history.read(after)

    def _load(self) -> None:
        """Fill the memory from the newest good snapshot and the log after it."""
        history = self.history()
        snapshot = self._restore_snapshot()
        for entry in history:
            self.state.apply(entry, effect=entry.seq > snapshot)
            if entry.seq == snapshot and self.state.active() != self.memory.index.ids:
                raise ValueError(
                    f"{self.folder / CONFIG}: the snapshot's signatures are not those of the log's active edits"
                )
        if self.state.seq < snapshot:
            raise Damaged(f"{self.folder}: the log ends at record {self.state.seq}, before the snapshot of {snapshot}")

    def _restore_snapshot(self) -> int:
        """Fill the memory from the newest good snapshot; returns its record, 0 when there is none."""
        D, d, _ = self.manifest.sizes
        memory = self.memory
        shapes = manifest.snapshot_shapes(D, d, memory.C is not None)
        for snapshot in self.manifest.snapshots:
            try:
                tensors = manifest.read_tensors(self.folder / snapshot.file, snapshot.digest, shapes)
                memory.index.add(tensors["ids"].tolist(), tensors["signatures"].numpy())
            except ValueError as error:
                self.report.append(f"{error}; the memory was made again from an older snapshot and the log")
                continue
            memory.V.copy_(tensors["V"])
            if memory.C is not None:
                memory.C.copy_(tensors["C"])
            memory.scale = float(snapshot.scale)
            return snapshot.seq
        return 0

    def _reconcile(self) -> None:
        """The writer's part of opening: the live segment, and a ledger that says what the log says."""
        parts = segments(self.folder)
        path = parts[-1][1] if parts else segment_path(self.folder, 1)
        self._log = Writer(path, path.stat().st_size if path.exists() else 0)
        files.sync_folder(self.folder)
        rows = [as_stored(self.state.row(edit)) for edit in self.state.entries]
        ledger = self._ledger
        behind = ledger.acknowledged < self.state.seq
        try:
            same = ledger.rows() == rows
        except (sqlite3.Error, ValueError):
            same = False
        if not same or behind:
            if not same and not behind:
                self.report.append("ledger.sqlite did not say what the log says; it was made again from the log")
            try:
                ledger.put(rows, self.state.seq, everything=True)
            except sqlite3.Error:
                ledger.close()
                set_aside(self.folder)
                self._ledger = Ledger(self.folder)
                self._ledger.put(rows, self.state.seq, everything=True)

    def _make_memory(self) -> None:
        """An empty memory of the store's kind."""
        kept = self.manifest
        base = manifest.read_tensors(self.folder / BASE, kept.base, manifest.base_shapes(kept.sizes[0]))
        if manifest.permutation_digest(base["permutation"]) != kept.permutation:
            raise ValueError(f"{self.folder / CONFIG}: permutation does not name the one in {BASE}")
        self.calibration = base["calibration"]
        self.memory = ResidualMemory(*kept.sizes, base["permutation"])
        self.memory.background.copy_(base["background"])
        self.memory.feature = kept.config.feature
        if kept.config.write == "preconditioned":
            self.memory.track()
        self.state = State(self.memory)

    def refresh(self) -> int:
        """Take in what the writer has added since; returns how many records. For readers, in time that depends on these only."""
        if self.is_writer:
            return 0
        before, history = self.state.seq, self.history(self.state.seq)
        if any(entry.forgotten for entry in history):  # only a snapshot still holds them
            self.manifest = Manifest.load(self.folder)
            self.reload()
            return self.state.seq - before
        for entry in history:
            self.state.apply(entry)
        return len(history)

    # ---- writing -------------------------------------------------------------------------------------------------

    def conflicts(self, signature, target: str) -> list[int]:
        """The active edits that a new edit of this signature (ceil(D/8),) and target contradicts.

        Raises:
            ConflictError: there are some, and the policy is "reject".
        """
        if self.manifest.conflict == "keep":
            return []
        least = self.manifest.conflict_threshold
        found = [
            i for i in self.memory.index.within(signature, least) if self.edits[i]["target"].strip() != target.strip()
        ]
        if found and self.manifest.conflict == "reject":
            old = self.edits[found[0]]
            raise ConflictError(
                f"this contradicts edit {found[0]} ({old['prompt'][:80]!r} -> {old['target'][:80]!r}) and the store's conflict "
                "policy is 'reject': delete that edit first"
            )
        return found

    def add(self, facts: list[dict], updates: list[Update]) -> list[int]:
        """Make finished edits part of the store: on the disk first, then in the memory.

        Args:
            facts: per edit its prompt, target, author, created, loss, steps, seconds, nearest, overlap, supersedes, tags and
                metadata.
            updates: per edit its update.

        Returns:
            the new ids.

        Raises:
            StoreError: the disk is full or failing; no edit was made. ValueError: an update is not finite.
        """
        writer = self._writer()
        dtype = DTYPES[self.manifest.record_dtype]
        records, first = [], self.state.next_id
        for number, (fact, update) in enumerate(zip(facts, updates, strict=True)):
            update = update.compact().rounded(dtype)
            if not update.is_finite():
                raise ValueError("the edit's update is not finite: not made, the store is unchanged")
            header = {"seq": self.state.seq + 1 + number, "kind": "edit", "id": first + number, **fact,
                      "decay": update.decay, "scale": update.scale, "dtype": self.manifest.record_dtype}  # fmt: skip
            records.append((header, edit_body(update, dtype)))
        self._commit(writer, records)
        return list(range(first, first + len(facts)))

    def _commit(self, writer: Writer, records: list[tuple[dict, bytes]]) -> None:
        entries = writer.append(records, durable=self.durability == "edit")
        try:
            self._apply(entries)
        except BaseException as error:
            # The memory may hold a part of them: make it again from what is acknowledged.
            writer.take_back(entries)
            self.reload()
            with contextlib.suppress(sqlite3.Error):  # it may have gone ahead before an interrupt
                rows = [self.state.row(edit) for edit in self.state.entries]
                self._ledger.put(rows, min(self._ledger.acknowledged, self.state.seq), everything=True)
            if isinstance(error, (sqlite3.Error, OSError)):
                raise StoreError(
                    f"{self.folder / 'ledger.sqlite'}: writing failed ({error}); nothing was changed"
                ) from error
            raise
        if writer.end > self.compact_bytes:
            try:
                self.compact()
            except StoreError as error:  # the change itself is made and safe
                warnings.warn(f"{error}; the log grows until a later compaction succeeds", stacklevel=4)

    def _apply(self, entries: list[Entry]) -> None:
        touched: dict[int, None] = {}
        for entry in entries:
            self.state.apply(entry)
            header = entry.header
            ids = [edit for edit, _ in header["changes"]] if header["kind"] == "status" else [header["id"]]
            touched.update(dict.fromkeys([*ids, *header.get("supersedes", [])]))
        # With durability="batch" the ledger must not claim records that may still be lost.
        known = self.state.seq if self.durability == "edit" else self._ledger.acknowledged
        self._ledger.put([self.state.row(edit) for edit in touched], known)

    def reload(self) -> None:
        """Make the memory again from the disk."""
        memory = self.memory
        with torch.no_grad():
            memory.index.remove(memory.index.ids)
            memory.V.zero_()
            if memory.C is not None:
                memory.C.zero_()
            memory.scale = 1.0
        self.state.clear()
        self._load()

    def flush(self) -> None:
        """With durability="batch": wait until all edits so far are on the disk."""
        try:
            self._writer().sync()
            self._ledger.put([], self.state.seq)
        except (OSError, sqlite3.Error) as error:
            self._log.broken = True
            raise StoreError(
                f"{self._log.path}: flushing failed ({error}); edits since the last flush may be lost"
            ) from error

    def _writer(self) -> Writer:
        if self._log is None:
            raise StoreError(f"{self.folder}: opened for reading; open it with writer=True to change it")
        if self._log.broken:
            raise StoreError(
                f"{self._log.path}: an earlier write failed and could not be taken back; open the store again"
            )
        return self._log

    # ---- taking back ---------------------------------------------------------------------------------------------

    def delete(self, edit: int) -> None:
        """Take an edit back: its update is subtracted, its signature removed, and what it superseded comes back.

        Its prompt is then answered as if the edit had never been made, up to what later edits, made while it was there,
        learned around it.
        """
        self._known(edit)
        if self.state.statuses[edit] == "deleted":
            raise ValueError(f"edit {edit} is deleted already")
        self._change([[edit, "deleted"], *([old, "active"] for old in self._superseded_by(edit))])

    def restore(self, edit: int) -> None:
        """Bring a deleted or superseded edit back; what it superseded is superseded again."""
        self._known(edit)
        if self.state.statuses[edit] not in ("deleted", "superseded"):
            raise ValueError(f"edit {edit} is {self.state.statuses[edit]}, not deleted or superseded")
        old = [
            i for i in self.state.entries[edit].header["supersedes"] if self.state.statuses[i] in ("active", "disabled")
        ]
        self._change([*([i, "superseded"] for i in old), [edit, "active"]])

    def disable(self, edit: int) -> None:
        """Let no query find an edit, without taking its update back."""
        self._switch(edit, "active", "disabled")

    def enable(self, edit: int) -> None:
        """Undo `disable`."""
        self._switch(edit, "disabled", "active")

    def tag(self, edit: int, tags: Iterable[str]) -> None:
        """Replace an edit's tags."""
        self._known(edit)
        header = {"seq": self.state.seq + 1, "kind": "tags", "id": edit, "tags": check_tags(tags), "created": _now()}
        self._commit(self._writer(), [(header, b"")])

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
        for entry in kept:
            past.apply(entry, effect=False)
        wanted = {edit: past.statuses.get(edit, "deleted") for edit in self.state.statuses}
        changes = [[edit, status] for edit, status in wanted.items() if status != self.state.statuses[edit]]
        if changes:
            # What goes first: so that two edits of one prompt are never in the memory together.
            self._change(sorted(changes, key=lambda change: change[1] == "active"))
        return [edit for edit, _ in changes]

    def _superseded_by(self, edit: int) -> list[int]:
        """What comes back when an edit goes: what it superseded, unless that went on its own or another edit superseded it too."""
        state = self.state
        if state.statuses[edit] not in ("active", "disabled"):
            return []
        others = {old for i in state.written() if i != edit for old in state.entries[i].header["supersedes"]}
        own = state.entries[edit].header["supersedes"]
        return [old for old in own if state.statuses[old] == "superseded" and old not in others]

    def _switch(self, edit: int, before: str, after: str) -> None:
        self._known(edit)
        if self.state.statuses[edit] != before:
            raise ValueError(f"edit {edit} is {self.state.statuses[edit]}, not {before}")
        self._change([[edit, after]])

    def _change(self, changes: list[list]) -> None:
        for edit, status in changes:
            if status != "disabled":
                self.state.update_of(edit)  # refused before anything is written when its record is damaged or forgotten
        header = {"seq": self.state.seq + 1, "kind": "status", "changes": changes, "created": _now()}
        self._commit(self._writer(), [(header, b"")])

    def _known(self, edit: int) -> None:
        if isinstance(edit, bool) or not isinstance(edit, int):
            raise TypeError(f"edit must be an int, got {edit!r}")
        if edit not in self.state.entries:
            raise ValueError(f"there is no edit {edit} in {self.folder}")

    # ---- keeping it small ----------------------------------------------------------------------------------------

    def compact(self, forget_before: int | None = None) -> None:
        """Write a snapshot and begin a new log segment; the older ones become the archive that undo reads.

        Args:
            forget_before: give up the undo of edits with smaller ids: their updates are dropped from the archive.
        """
        writer, state, memory = self._writer(), self.state, self.memory
        self.flush()
        if forget_before is not None and (isinstance(forget_before, bool) or not isinstance(forget_before, int)):
            raise TypeError(f"forget_before must be an edit's id, got {forget_before!r}")
        if self._rebuilt != state.changed and memory.C is not None:
            self._rebuild_C()
        ids = memory.index.ids
        tensors = {
            "V": memory.V,
            "ids": torch.tensor(ids, dtype=torch.int64),
            "signatures": torch.from_numpy(memory.index.signatures()),
            **({} if memory.C is None else {"C": memory.C}),
        }
        name = f"snapshot-{state.seq:012d}.safetensors"
        try:
            found = manifest.write_tensors(self.folder / name, tensors)
            snapshot = Snapshot(state.seq, name, found, memory.scale)
            updated = self.manifest.with_snapshot(snapshot)
            if writer.end:
                self._begin_segment()
            updated.save(self.folder)
        except OSError as error:
            raise StoreError(f"{self.folder}: compaction failed ({error.strerror}); nothing is lost") from error
        self.manifest = updated
        kept = {s.file for s in updated.snapshots}
        for path in self.folder.glob("snapshot-*.safetensors"):
            if path.name not in kept:
                path.unlink()
        if forget_before is not None:
            self._forget(forget_before)

    def _begin_segment(self) -> None:
        """Go on in a new segment, once its name is durable: an acknowledged record must not vanish with its file."""
        old, fresh = self._log, Writer(segment_path(self.folder, self.state.seq + 1), 0)
        try:
            files.sync_folder(self.folder)
        except OSError:
            fresh.close()
            try:
                fresh.path.unlink()
            except OSError:
                old.broken = True
            raise
        self._log = fresh
        old.close()

    def _rebuild_C(self) -> None:
        """C from the records, where they are all there: what subtraction left of rounding goes."""
        if any(self.state.entries[edit].forgotten for edit in self.state.written()):
            return
        total = torch.zeros_like(self.memory.C)
        for edit in self.state.written():
            update = self.state.update_of(edit).to(total.device)
            rows = update.rows.long()
            total[rows[:, None], rows] += update.features.T @ update.features
        self.memory.C.copy_(total)
        self._rebuilt = self.state.changed

    def _forget(self, before: int) -> None:
        """Write the archive's segments anew, without the updates of edits below this id."""
        for first, path in segments(self.folder)[:-1]:
            entries, problem = scan(path, first)
            if problem is not None:
                raise problem
            drops = [entry.header["kind"] == "edit" and entry.header["id"] < before for entry in entries]
            records = [_forgotten(e) if drop else e.raw() for e, drop in zip(entries, drops, strict=True)]
            files.replace(path, b"".join(records))
        for entry in self.history():
            if entry.header["kind"] == "edit":
                self.state.entries[entry.header["id"]] = entry

    def verify(self) -> dict:
        """Read and replay everything; see `verify.verify`."""
        return verify(self)


def is_store(folder) -> bool:
    """Whether a folder holds a store, be it a damaged one (opening it says what is wrong)."""
    return all((Path(folder) / name).exists() for name in (BASE, CONFIG))


def _forgotten(entry: Entry) -> bytes:
    header = {name: value for name, value in entry.header.items() if name != "body"}
    return encode(header)


def _user() -> str:
    with contextlib.suppress(Exception):
        return getpass.getuser()
    return "unknown"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"to: {text!r} is neither an edit's id nor a time like 2026-01-31T12:00:00+00:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
