"""The journal of a memory without a store: undo for as long as the process lives."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from ..base import files
from ..config import MemoirConfig
from ..errors import StoreError
from ..memory.low_rank import LowRank
from ..memory.residual import ResidualMemory
from ..memory.symmetric import Symmetric
from .journal import Journal
from .record import Entry, edit_update, encode, read_entry
from .state import State


class VolatileJournal(Journal):
    """Keeps records in an unnamed temporary file that disappears with the process, so the updates take no main memory.

    Args:
        memory: an empty memory, or one filled from a memory folder.
        rows: that folder's edits, see `State.adopt`.
        next_id: the id that the next edit gets.
    """

    def __init__(self, memory: ResidualMemory, rows: list[dict[str, Any]] | None = None, next_id: int = 0):
        super().__init__()
        self.memory, self.state = memory, State(memory)
        self.state.adopt(rows or [], next_id, Path("the memory folder"))
        self._entries: list[Entry] = []
        self._file, self._process = _new_file(), os.getpid()
        self._inherited: IO[bytes] | None = None
        self._end = 0
        self._earlier: Journal | None = None  # the journal that this one goes on from, and its last record then
        self._begins = 0

    @classmethod
    def before(cls, journal: Journal) -> VolatileJournal:
        """A journal that goes on from where another one is, of the same memory and under the same lock: what it keeps, the other never learns of.
        Take its `mark` first, to give the memory back as it was."""
        made = cls(journal.memory)
        made.writing, made._earlier, made._begins = journal.writing, journal, journal.state.seq
        made.conflict, made.record_dtype = journal.conflict, journal.record_dtype
        made.state.take(journal.state.copied())
        return made

    def __str__(self) -> str:
        return "this memory"

    def check_writable(self) -> None:
        """Raise StoreError once the journal is closed."""
        if self._file.closed:
            if self._earlier is not None:
                raise StoreError("the rehearsal is over, and with it this journal of its own; change the model itself")
            raise StoreError("this memory was closed: it still answers, but cannot be changed")

    def history(self, after: int = 0) -> list[Entry]:
        """The records with numbers above `after`, in order; those of the journal that this one goes on from are read from it."""
        # Of these, some may be newer: a store's writer goes on beside its readers.
        earlier = [] if self._earlier is None else self._earlier.history(after)
        return [entry for entry in earlier if entry.seq <= self._begins] + [
            entry for entry in self._entries if entry.seq > after
        ]

    def configure(self, config: MemoirConfig, tensors: dict[str, torch.Tensor] | None = None) -> None:
        """Does nothing: the model itself holds settings and tensors."""

    def flush(self) -> None:
        """Does nothing but raise as `check_writable`: a temporary file need not be durable."""
        self.check_writable()

    def close(self) -> None:
        """Close the temporary file; nothing can be edited or taken back afterwards."""
        self._file.close()

    def _commit(self, records: list[tuple[dict, bytes]]) -> None:
        entries, end = self._append(records)
        with self._all_or_nothing(entries):
            for entry in entries:
                self.state.apply(entry)
            self._entries += entries
            self._end = end

    def _append(self, records: list[tuple[dict, bytes]]) -> tuple[list[Entry], int]:
        try:
            if self._process != os.getpid():
                self._move_out()
            entries, end, descriptor = [], self._end, self._file.fileno()
            os.lseek(descriptor, end, os.SEEK_SET)
            for header, body in records:
                data = encode(header, body)
                files.write_all(descriptor, data)
                entry = read_entry(data, len(data), Path("the journal"), end)
                entries.append(replace(entry, descriptor=descriptor))
                end += len(data)
        except OSError as error:
            raise StoreError(
                f"the temporary file of the journal: writing failed ({error.strerror}); nothing was changed"
            ) from error
        return entries, end

    def _move_out(self) -> None:
        """Copy the records into a file of this process's own. After a fork both processes share the old file, and each
        would overwrite the other's records."""
        data, file = os.pread(self._file.fileno(), self._end, 0), _new_file()
        files.write_all(file.fileno(), data)
        self._entries = [replace(entry, descriptor=file.fileno()) for entry in self._entries]
        made = {entry.header["id"]: entry for entry in self._entries if entry.header["kind"] == "edit"}
        self.state.entries |= {edit: entry for edit, entry in made.items() if edit in self.state.entries}
        self._inherited, self._file, self._process = (
            self._file,
            file,
            os.getpid(),
        )  # a mark taken earlier still reads the inherited file

    @contextlib.contextmanager
    def _all_or_nothing(self, entries: list[Entry]) -> Iterator[None]:
        """Restore the memory and the state if applying fails or is interrupted (Ctrl-C)."""
        memory, state = self.memory, self.state
        with memory.lock:
            saved = _Saved.of(memory, state, [*self._masks(entries)], self.touched(entries))
            try:
                yield
            except BaseException:
                saved.put_back(memory, state)
                raise

    def _masks(self, entries: list[Entry]) -> Iterator[torch.Tensor]:
        """The rows of V that some records may change."""
        memory, made = self.memory, {entry.header["id"]: entry for entry in entries if entry.header["kind"] == "edit"}
        sizes = (memory.in_features, memory.out_features, memory.top_k)
        for edit in self.touched(entries):
            entry = made.get(edit) or self.state.entries[edit]
            if not entry.forgotten:
                first = memory.page_of(edit) * memory.in_features
                yield edit_update(entry, sizes, memory.reads is not None).rows.long() + first

    # ---- restore points, for `compat` ----------------------------------------------------------------------------

    def mark(self) -> _Saved:
        """A restore point of the whole memory, for `return_to`."""
        with self.memory.lock:
            everything = torch.arange((max(self.memory.pages.held) + 1) * self.memory.in_features)
            saved = _Saved.of(self.memory, self.state, [everything], list(self.state.entries))
            return replace(saved, entries=len(self._entries), end=self._end)

    def return_to(self, mark: _Saved) -> None:
        """Restore the memory bit by bit as it was when `mark` was taken; later records are forgotten."""
        with self.writing, self.memory.lock:
            mark.put_back(self.memory, self.state)
            del self._entries[mark.entries :]
            self._end = mark.end
            self.memory.index.touch()  # what was chosen by tags is chosen anew


def _new_file() -> IO[bytes]:
    """An unnamed file, which the system frees when the last process closes it."""
    return tempfile.TemporaryFile(prefix="memoir_fast-", buffering=0)


@dataclass(frozen=True)
class _Saved:
    """A copy of some rows of a memory, of C and of what its `drift` knows (sums), and of what memory and state hold about some edits.

    Attributes:
        last, page: the memory's last page and its newest.
        columns: of C that were copied, None for all of it.
    """

    rows: torch.Tensor
    V: torch.Tensor
    C: Symmetric | LowRank | torch.Tensor | None
    columns: torch.Tensor | None
    last: int
    page: int
    scale: float
    counts: dict[str, int]
    edits: dict[int, dict[str, Any]]
    signatures: dict[int, np.ndarray]
    sums: torch.Tensor | None = None
    entries: int = 0
    end: int = 0

    @classmethod
    def of(cls, memory: ResidualMemory, state: State, masks: list[torch.Tensor], ids: list[int]) -> _Saved:
        """Take the copy. masks: the rows, each (n,); ids: the edits, which need not exist yet."""
        D = memory.in_features
        rows = torch.cat(masks).unique() if masks else torch.zeros(0, dtype=torch.long)
        C: Symmetric | LowRank | torch.Tensor | None = None
        columns = None
        if isinstance(memory.reads, LowRank) or (
            memory.reads is not None and len(rows) and int(rows[-1]) // D > memory.page
        ):
            C = memory.reads.clone()  # which takes no memory, or another page begins
        elif memory.reads is not None:
            columns = (rows[rows // D == memory.page] % D).to(memory.pages.device)
            C = memory.reads.within(columns)
        known = {edit: {name: kept[edit] for name, kept in state.by_edit().items() if edit in kept} for edit in ids}
        signatures = {edit: memory.index.signature(edit) for edit in ids if edit in memory.index}
        sums = None if memory.drift is None else memory.drift.sums.clone()
        last, V = max(memory.pages.held), memory.pages.of_rows(rows.to(memory.pages.device))
        return cls(rows, V, C, columns, last, memory.page, memory.scale, state.counts(), known, signatures, sums)

    def put_back(self, memory: ResidualMemory, state: State) -> None:
        """Restore the rows and edits; edits made since are removed."""
        memory.pages.put(self.rows, self.V)
        memory.pages.keep_to(self.last)
        memory.scale, memory.page = self.scale, self.page
        if isinstance(self.C, torch.Tensor):
            assert isinstance(memory.reads, Symmetric) and self.columns is not None
            memory.reads.put(self.columns, self.C)
        elif self.C is not None:
            memory.reads = self.C
        if memory.drift is not None and self.sums is not None:
            memory.drift.sums.copy_(self.sums)
        memory.forget_blocks()
        later = [edit for edit in state.entries if edit >= self.counts["next_id"]]
        for edit in [*self.edits, *later]:
            was = self.edits.get(edit, {})
            for name, kept in state.by_edit().items():
                if name in was:
                    kept[edit] = was[name]
                else:
                    kept.pop(edit, None)
            signature = self.signatures.get(edit)
            if signature is None and edit in memory.index:
                memory.index.remove([edit])
            elif signature is not None and edit not in memory.index:
                memory.index.add([edit], signature[None])
        state.count_as(self.counts)
