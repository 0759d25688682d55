"""A store: a folder that keeps a memory through crashes, with each edit's update, so that edits can be undone.

    config.json          settings, the base model's fingerprint, the newest snapshots; under a checksum
    base.safetensors     permutation, background, calibration signatures, the words' matcher, the unrelated prompts
    snapshot-<seq>       C, signatures and the list of V's pages after record <seq>
    page-<digest>        a page of V, which any number of snapshots list
    log-<seq>.bin        the records from <seq> on; the last segment is live, the others are the archive
    ledger.sqlite        one row per edit, for queries; made from the log

The one writer holds a lock; readers need none. A record is on disk before its edit counts as made.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..base import collecting, files
from ..config import MemoirConfig
from ..editing.update_rule import rule_of
from ..errors import CutOff, Damaged, StoreError
from ..journal.journal import CONFLICTS, Journal, exclusive
from ..journal.memory_state import MemoryState, words_among
from ..journal.record import DTYPES, Entry
from ..journal.state import State
from ..memory.residual import ResidualMemory
from . import compaction, following, manifest, snapshots
from .ledger import Ledger, Place, acknowledged, open_ledger, reconcile
from .lock import WriterLock
from .log import History, Writer, check_reaches, segment_path, segments
from .manifest import BASE, CONFIG, Manifest
from .page_files import PageFiles
from .verify import verify

DURABILITIES = ("edit", "batch")
_TRIES = 3  # how often a reader tries again because a compaction replaced the files it was reading


class Store(Journal):
    """An open store.

    Args:
        folder: an existing store; `create` makes one.
        writer: take the lock, so that edits can be made; otherwise only `refresh` changes the memory.
        durability: "edit": an edit counts as made once its record is on disk. "batch": only after `flush` or `close`,
            so that many edits need only one flush.
        compact_bytes: size of the live log segment above which the store compacts itself.

    Attributes:
        report: what opening had to repair, as sentences.

    Raises:
        ValueError: a file is missing, damaged, or not what it should be; the message names file and field.
        StoreError: another process is writing.
    """

    def __init__(
        self, folder: str | Path, writer: bool = False, durability: str = "edit", compact_bytes: int = 256 << 20
    ):
        super().__init__()
        if durability not in DURABILITIES:
            raise ValueError(f"durability must be one of {DURABILITIES}, got {durability!r}")
        self.folder, self.durability, self.compact_bytes = Path(folder), durability, compact_bytes
        self.report: list[str] = []
        self._log: Writer | None = None
        self._process = os.getpid()
        self._ledger: Ledger | None = None
        self._lock: WriterLock | None = None
        self.page_files = PageFiles()
        self.mended = 0  # the state's count of changes when C was last found to be the sum of the records, or made it
        if not (self.folder / CONFIG).exists():
            raise ValueError(f"{self.folder}: there is no store in this folder ({CONFIG} is missing)")
        try:
            if writer:
                self._lock = WriterLock(self.folder)
            with collecting.put_off():
                self._open(writer)
        except BaseException:
            self.close()
            raise

    def _open(self, writer: bool) -> None:
        self.manifest = Manifest.load(self.folder)
        for left in range(_TRIES, -1, -1):
            try:
                self._read(writer)
                break
            except ValueError:
                # A compaction may replace files while a reader reads them; a changed `config.json` shows it.
                before, self.manifest = self.manifest, Manifest.load(self.folder)
                if writer or not left or self.manifest == before:
                    raise
                self.report.clear()
        if writer:
            self._reconcile()

    def _read(self, writer: bool) -> None:
        kept = self.manifest
        torn: type[Damaged] = CutOff
        self.conflict, self.record_dtype = kept.conflict, kept.record_dtype
        self._make_memory(manifest.read_base(self.folder, kept))
        # The ledger is asked first, so that every record it knows must be in the log that is read next.
        if writer:
            self._ledger, torn = open_ledger(self.folder, kept.store, self.report)
            known_to = self._ledger.acknowledged
        else:
            known_to = acknowledged(self.folder, kept.store)
        self._history = History(self.folder, kept.store, known_to, torn, self.report, cuts=writer)
        self._load()
        check_reaches(self.folder, self.state.seq, known_to)

    # ---- making, opening, closing --------------------------------------------------------------------------------

    @classmethod
    def create(cls, folder: str | Path, state: MemoryState, conflict: str = "supersede", record_dtype: str = "float32",
               **settings: Any) -> Store:  # fmt: skip
        """Make a store for an empty memory, open it for writing, and use this memory object from then on.

        Args:
            conflict: see `Journal`.
            record_dtype: "float32", or "bfloat16" for logs of half the size; V is then written from the rounded values.
            settings: as for `Store`. Raises ValueError for bad arguments, OSError or StoreError if writing fails.
        """
        for name, value, legal in (("conflict", conflict, CONFLICTS), ("record_dtype", record_dtype, DTYPES)):
            if value not in legal:
                raise ValueError(f"{name} must be one of {legal}, got {value!r}")
        folder = Path(folder)
        files.make_folder(folder)
        unfinished = {BASE, f"{BASE}.part", f"{CONFIG}.part"}  # left when making a store was interrupted
        if not {path.name for path in folder.iterdir()} <= unfinished:
            raise ValueError(f"{folder}: the folder of a new store must be empty")
        memory = state.memory
        if len(memory) or memory.pages.norm():
            raise ValueError("memory: a store begins with an empty memory, for every later edit must be in its log")
        base = {"permutation": memory.permutation, "background": memory.background, **state.measured()}
        stored = manifest.write_tensors(folder / BASE, base)
        Manifest(config=state.config, fingerprint=state.fingerprint, contexts=list(state.contexts), base=stored,
                 permutation=manifest.permutation_digest(memory.permutation), conflict=conflict,
                 record_dtype=record_dtype).named().save(folder)  # fmt: skip
        made = cls(folder, writer=True, **settings)
        memory.drift = made.memory.drift
        made.memory = made.state.memory = memory
        return made

    @exclusive
    def configure(self, config: MemoirConfig, tensors: dict[str, torch.Tensor] | None = None) -> None:
        self._writer()
        kept, old = replace(self.manifest, config=config), self.manifest.base_file
        if tensors is not None:
            base = manifest.newest(self.folder)[1] | tensors
            fresh = kept.next_base()
            kept = replace(kept, base_file=fresh, base=manifest.write_tensors(self.folder / fresh, base))
        self.keep(kept.named())
        if kept.base_file != old:
            (self.folder / old).unlink(missing_ok=True)
            self.take_base(base)

    def keep(self, kept: Manifest) -> None:
        """For the writer: write a new `config.json`."""
        kept.save(self.folder)
        writer, self.manifest = self._writer(), kept
        writer.chain = replace(writer.chain, store=kept.store)
        self._history.name = self._rows().name = kept.store

    @exclusive
    def close(self) -> None:
        """Flush, and release the lock."""
        own = self._process == os.getpid()  # after a fork, the lock and unflushed records are the parent's
        try:
            if own and self._log is not None and not self._log.broken and self.durability == "batch":
                self.flush()
        finally:
            for part in (self._log, self._ledger):
                if part is not None:
                    part.close()
            self._log = self._ledger = None
            if self._lock is not None and own:
                self._lock.release()
                self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __str__(self) -> str:
        return str(self.folder)

    def memory_state(self) -> MemoryState:
        """The store's memory with this store as its journal, for `MemoirModel`."""
        kept = self.manifest
        calibration = self.calibration.numpy()
        return MemoryState(kept.config, kept.fingerprint, self.memory, kept.contexts, calibration, self, self.words)

    def check_writable(self) -> None:
        """Raise StoreError for a reader, and after a failed write that could not be taken back."""
        self._writer()

    def ledger_rows(self) -> list[dict[str, Any]]:
        """For the writer: the ledger's rows. Raises StoreError for a reader, sqlite3.Error for a damaged ledger."""
        self._writer()
        return self._rows().rows()

    @property
    def is_writer(self) -> bool:
        """Whether the store is open for writing."""
        return self._lock is not None

    def _rows(self) -> Ledger:
        """The writer's ledger."""
        assert self._ledger is not None
        return self._ledger

    # ---- loading -------------------------------------------------------------------------------------------------

    def history(self, after: int = 0) -> list[Entry]:
        """The records with numbers above `after`; see `log.History.read`."""
        return self._history.read(after)

    def _load(self) -> None:
        """Fill the memory from the newest good snapshot and the log's records after it."""
        history = self.history()
        made = snapshots.restore(self.folder, self.manifest, self.memory, history)
        self.page_files.note(self.memory.pages, made.stored)
        if any(entry.forgotten and entry.seq > made.seq for entry in history):
            raise Damaged("; ".join(made.problems or [f"{self.folder / CONFIG}: names no snapshot"]) + ". Updates were given up, so the memory "
                          "cannot be made again from the log: put a snapshot back from a copy")  # fmt: skip
        self.report += [
            f"{problem}; the memory was made again from an older snapshot and the log" for problem in made.problems
        ]
        self.report += made.repaired
        ids = [entry.header.get("id") for entry in history[made.seq :] if entry.header["kind"] == "edit"]
        newest = max((self.memory.page_of(edit) for edit in ids if isinstance(edit, int)), default=0)
        if newest > self.memory.page:  # C will be of that one alone
            self.memory.begin(newest)
        for entry in history:
            self.state.apply(entry, effect=entry.seq > made.seq)
            if entry.seq == made.seq and self.state.active() != self.memory.index.ids:
                raise ValueError(
                    f"{self.folder / CONFIG}: the snapshot's signatures are not those of the log's active edits"
                )
        manifest.check_snapshots(self.folder, self.state.seq, self.manifest)

    def _reconcile(self) -> None:
        """The writer's part of opening: open the live segment, and make the ledger agree with the log."""
        parts = segments(self.folder)
        path = parts[-1][1] if parts else segment_path(self.folder, 1)
        self._log = Writer(path, path.stat().st_size if path.exists() else 0, self._history.chain())
        files.sync_folder(self.folder)
        rows = [self.state.row(edit) for edit in self.state.entries]
        self._ledger = reconcile(self._rows(), rows, self.state.seq, self._place(), self.report)

    def note_place(self) -> None:
        """For the writer, which has flushed: say in the ledger where the log ends. Raises sqlite3.Error."""
        self._rows().put([], self.state.seq, self._place())

    def _place(self) -> Place:
        """For the writer: where its log ends."""
        assert self._log is not None
        return Place(self._log.path.name, self._log.end, self.memory.scale)

    def take_base(self, base: dict[str, torch.Tensor]) -> None:
        """Keep those of the base file's tensors that thresholds and matching are made from."""
        self.calibration, self.words = base["calibration"], words_among(base)

    @property
    def settings(self) -> tuple[MemoirConfig, torch.Tensor, dict[str, torch.Tensor] | None]:
        return self.manifest.config, self.calibration, self.words

    def _make_memory(self, base: dict[str, torch.Tensor]) -> None:
        """Make the store's memory, still empty. base: its base file's tensors."""
        kept = self.manifest
        self.take_base(base)
        if manifest.permutation_digest(base["permutation"]) != kept.permutation:
            raise ValueError(f"{self.folder / CONFIG}: permutation does not name the one in {kept.base_file}")
        self.memory = ResidualMemory(*kept.sizes, base["permutation"], kept.config.page_edits or 0)
        self.memory.background.copy_(base["background"])
        self.memory.feature = kept.config.feature
        if rule_of(kept.config).tracks:
            self.memory.track()
            if self.is_writer:
                self.memory.watch()
        self.state = State(self.memory)

    @exclusive
    def refresh(self) -> int:
        """For readers: take over the writer's new records, settings and prompts; returns the number of records. The
        time depends only on what has changed. Raises ValueError for damaged files, StoreError if the folder holds
        another store now."""
        if self.is_writer:
            return 0
        before, history = self.state.seq, None
        following.take_up(self)
        with contextlib.suppress(Damaged):  # the records read before may have been replaced by others
            if self._history.still_there():
                history = self.history(self.state.seq)
        if history is None or any(entry.forgotten for entry in history):  # only a snapshot still holds them
            with Store(self.folder) as fresh:
                following.renew(self, fresh)
            return max(1, self.state.seq - before)
        for entry in history:
            self.state.apply(entry)
        return len(history)

    # ---- writing -------------------------------------------------------------------------------------------------

    def _commit(self, records: list[tuple[dict[str, Any], bytes]]) -> None:
        self._take_in(self._writer().append(records, durable=self.durability == "edit"))

    def _take_in(self, entries: list[Entry]) -> None:
        writer = self._writer()
        try:
            self._apply(entries)
            self._history.known_to = self.state.seq
        except BaseException as error:
            # The memory may hold some of them, so it is rebuilt from the acknowledged records.
            writer.take_back(entries)
            self.reload()
            with contextlib.suppress(sqlite3.Error):  # the ledger may hold them already
                rows = [self.state.row(edit) for edit in self.state.entries]
                self._rows().put(rows, min(self._rows().acknowledged, self.state.seq), Place(), everything=True)
            if isinstance(error, (sqlite3.Error, OSError)):
                raise StoreError(f"{self._rows().path}: writing failed ({error}); nothing was changed") from error
            raise
        if writer.end > self.compact_bytes:
            try:
                self.compact()
            except (StoreError, ValueError) as error:  # the change itself was made and is safe
                warnings.warn(f"{error}; the log grows until a later compaction succeeds", stacklevel=4)

    def _apply(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.state.apply(entry)
        # With durability="batch" the ledger must not claim records that may still be lost.
        ledger = self._rows()
        known, place = (self.state.seq, self._place()) if self.durability == "edit" else (ledger.acknowledged, Place())
        ledger.put([self.state.row(edit) for edit in self.touched(entries)], known, place)

    @exclusive
    def reload(self) -> None:
        """Rebuild the memory from disk. Raises ValueError for damaged files."""
        with self.memory.lock:
            self.memory.clear()
            self.state.clear()
            self._load()

    @exclusive
    def flush(self) -> None:
        """Wait until all edits so far are on disk; needed with durability="batch". Raises StoreError if that fails."""
        writer = self._writer()
        try:
            writer.sync()
            self.note_place()
        except (OSError, sqlite3.Error) as error:
            writer.broken = True
            raise StoreError(
                f"{writer.path}: flushing failed ({error}); edits since the last flush may be lost"
            ) from error

    def _writer(self) -> Writer:
        if self._log is None:
            raise StoreError(f"{self.folder}: opened for reading; open it with writer=True to change it")
        if self._process != os.getpid():
            raise StoreError(
                f"{self.folder}: opened by another process ({self._process}), which may be writing too. Open the store here, after "
                "that one has closed it"
            )
        if self._log.broken:
            raise StoreError(
                f"{self._log.path}: an earlier write failed and could not be taken back; open the store again"
            )
        return self._log

    # ---- keeping it small ----------------------------------------------------------------------------------------

    def compact(self, forget_before: int | None = None) -> None:
        """Write a snapshot and start a new log segment; the older segments become the archive that undo reads.

        Args:
            forget_before: drop the updates of edits with smaller ids, which can then not be undone. Raises as
                `compaction`'s.
        """
        with self.writing:
            compaction.compact(self, forget_before)

    def verify(self, each: Callable[[], Any] | None = None) -> dict[str, Any]:
        """Read, check and replay everything; see `verify.verify`."""
        return verify(self, each)
