"""Keeps a store small: writes snapshots, starts new log segments, and drops updates that are given up."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

from ..base import files
from ..errors import StoreError
from ..journal.record import Entry, encode
from ..memory.low_rank import LowRank
from ..memory.symmetric import Symmetric
from . import manifest, snapshots
from .log import Writer, scan, segment_path, segments
from .manifest import Snapshot
from .page_files import is_page

FEW = 256  # edits whose records are read again whenever C may have drifted
MOST_DRIFT = 1e-5  # of C's norm; the additions alone leave less
MOST_WORN = 0.1  # of what edits read, that was taken back from C's small form since it was last made

if TYPE_CHECKING:
    from .store import Store


def compact(store: Store, forget_before: int | None = None) -> None:
    """Write a snapshot and start a new log segment; the older segments become the archive that undo reads.

    Args:
        store: open for writing.
        forget_before: drop the updates of edits with smaller ids from the archive; these edits can then not be undone.

    Raises:
        TypeError: forget_before is not an id.
        StoreError: the store is open for reading, or a file could not be written; nothing is lost. Of the updates that
            were to be given up, some may be kept until a later compaction.
        ValueError: a segment of the archive is damaged, or a folder stands in a file's place.
    """
    writer, state, memory = store._writer(), store.state, store.memory
    store.flush()
    if forget_before is not None and (isinstance(forget_before, bool) or not isinstance(forget_before, int)):
        raise TypeError(f"forget_before must be an edit's id, got {forget_before!r}")
    if store.mended != state.changed and memory.reads is not None:
        _mend(memory.reads, store)
    name = f"snapshot-{state.seq:012d}.safetensors"
    try:
        pages = store.page_files.write(store.folder, memory.pages, _given_up_pages(store, forget_before))
        tensors = snapshots.tensors_of(memory, pages)
        found = manifest.write_tensors(store.folder / name, tensors)
        snapshot = Snapshot(state.seq, name, found, memory.scale)
        updated = store.manifest.with_snapshot(snapshot).named()
        if _given_up(store, forget_before) > (updated.snapshots[1].seq if updated.snapshots[1:] else 0):
            # Without these updates the log cannot rebuild the memory, so a second copy of the snapshot is kept.
            double = name.replace(".safetensors", "-copy.safetensors")
            manifest.write_tensors(store.folder / double, tensors)
            updated = replace(updated, snapshots=[snapshot, replace(snapshot, file=double)])
        if writer.end:
            _begin_segment(store)
        store.keep(updated)
        with contextlib.suppress(sqlite3.Error):  # a ledger that says where the log ended before is not read
            store.note_place()
        _remove_others(store, pages)
        if forget_before is not None:
            _forget(store, forget_before)
    except OSError as error:
        raise StoreError(f"{store.folder}: compaction failed ({error.strerror}); nothing is lost") from error


def _begin_segment(store: Store) -> None:
    """Continue in a new segment once its name is durable, so that acknowledged records cannot vanish with their
    file."""
    old = store._writer()
    fresh = Writer(segment_path(store.folder, store.state.seq + 1), 0, old.chain)
    try:
        files.sync_folder(store.folder)
    except OSError:
        fresh.close()
        try:
            fresh.path.unlink()
        except OSError:
            old.broken = True
        raise
    store._log = fresh
    old.close()


def _remove_others(store: Store, pages: dict[int, str]) -> None:
    """Delete the snapshots that `config.json` no longer names, and the pages that none of those lists that it does name. pages: which the newest lists."""
    kept = {snapshot.file for snapshot in store.manifest.snapshots} | {*snapshots.page_names(pages.values())}
    for snapshot in store.manifest.snapshots[1:]:
        if snapshot.seq != store.state.seq:  # otherwise a copy of the newest
            with contextlib.suppress(ValueError):  # one that cannot be read has no use for its pages
                listed = snapshots.pages_of(store.folder / snapshot.file, snapshot, store.manifest)
                kept |= {*snapshots.page_names(listed.values())}
    for pattern, ours in (("snapshot-*", manifest.is_snapshot), ("page-*", is_page)):
        for path in store.folder.glob(pattern):
            if path.name not in kept and ours(path.name) and not path.is_dir():
                path.unlink()


def _given_up_pages(store: Store, before: int | None) -> set[int]:
    """The pages of the edits whose updates are given up already or, for edits below `before`, now."""
    entries = store.state.entries.items()
    return {store.memory.page_of(i) for i, e in entries if e.forgotten or (before is not None and i < before)}


def _given_up(store: Store, before: int | None) -> int:
    """The number of the last record whose update is given up already or, for edits below `before`, now; 0 for none."""
    entries = store.state.entries.items()
    return max((e.seq for i, e in entries if e.forgotten or (before is not None and i < before)), default=0)


def _mend(C: Symmetric | LowRank, store: Store) -> None:
    """Recompute C from the records if all are there, to remove the errors that subtractions left. With many
    edits, only if these errors have become large: to read every record takes as long as there are edits."""
    memory, drift = store.memory, store.memory.drift
    written = [edit for edit in store.state.written() if memory.page_of(edit) == memory.page]
    if any(store.state.entries[edit].forgotten for edit in written):
        return
    if isinstance(C, LowRank):
        if C.worn <= MOST_WORN:
            return
    elif len(written) > FEW and drift is not None and drift.of(C) <= MOST_DRIFT:
        return
    total = memory.form(C.size).to(C.device)
    for edit in written:
        try:
            update = store.state.update_of(edit).to(total.device)
        except ValueError as error:  # C stays as it is; rounding errors are no reason to stop
            store.report.append(f"{error}; edit {edit} cannot be taken back until the file is put back from a copy")
            return
        assert update.features is not None
        total.add(update.rows, update.features)
    memory.reads = total
    if drift is not None and isinstance(total, Symmetric):
        drift.begin(total)
    store.mended = store.state.changed


def _forget(store: Store, before: int) -> None:
    """Rewrite the archive's segments without the updates of edits below this id."""
    try:
        for first, path in segments(store.folder)[:-1]:
            entries, problem = scan(path, first)
            if problem is not None:
                raise problem
            drops = [entry.header["kind"] == "edit" and entry.header["id"] < before for entry in entries]
            records = (_forgotten(e) if drop else e.raw() for e, drop in zip(entries, drops, strict=True))
            files.replace(path, records)
    finally:  # records lie elsewhere in the segments that were rewritten
        for entry in store.history():
            if entry.header["kind"] == "edit":
                store.state.entries[entry.header["id"]] = entry


def _forgotten(entry: Entry) -> bytes:
    header = {name: value for name, value in entry.header.items() if name != "body"}
    return encode({**header, "was": entry.link})  # the next record still names the digest of the original record
