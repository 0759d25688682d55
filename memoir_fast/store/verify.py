"""Check a whole store: every checksum, and the memory against the sum of its records' updates."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..journal.record import Entry
from ..journal.state import STATUSES, State
from ..memory.low_rank import LowRank
from ..memory.residual import ResidualMemory
from ..memory.symmetric import Symmetric
from . import page_files, snapshots
from .ledger import as_stored
from .listing import Listing

if TYPE_CHECKING:
    from .store import Store

_MOST = 1e-4  # the difference, of the largest norm, that rounding may leave
_EACH = 16  # records after which the norms are looked at
_NONE = 1e-30  # in the place of the norm of nothing, to divide by


def verify(store: Store, each: Callable[[], Any] | None = None) -> dict[str, Any]:
    """Read and replay everything: checksums, signatures, the memory against the records, and the ledger against the
    log.

    Args:
        store: open for reading or writing.
        each: called after each record.

    Returns:
        "records", the number of edits by status, and "bytes", the size of all files;
        "difference": |V - replayed V| over the largest norm that V had, None if updates were given up or there are
        problems; "repaired": what opening had to repair;
        "problems": sentences, empty if all is well.

    Raises:
        ValueError: the log cannot be read.
    """
    problems: list[str] = []
    history = store.history()
    difference = _replayed(store, history, problems, each or (lambda: None))
    _snapshots(store, problems)
    if _ledger(store) not in (None, [as_stored(store.state.row(edit)) for edit in store.state.entries]):
        problems.append("ledger.sqlite does not say what the log says")
    statuses = list(store.state.statuses.values())
    return {
        "records": len(history),
        **{status: statuses.count(status) for status in STATUSES},
        "bytes": sum(path.lstat().st_size for path in store.folder.iterdir()),
        "difference": difference,
        "repaired": store.report,
        "problems": problems,
    }


def _snapshots(store: Store, problems: list[str]) -> None:
    """Read the snapshots, the pages that they list, and the copies of these."""
    D, d, _ = store.manifest.sizes
    pages = set[str]()
    for snapshot in store.manifest.snapshots:
        try:
            pages |= {*snapshots.pages_of(store.folder / snapshot.file, snapshot, store.manifest).values()}
        except ValueError as error:
            problems.append(str(error))
    for page in sorted(pages):
        for copy in (False, True):
            path = store.folder / page_files.file_of(page, copy)
            if copy and not path.exists() and not path.is_symlink():
                continue
            try:
                page_files.read_file(path, page, (D, d))
            except ValueError as error:
                problems.append(str(error))


def _ledger(store: Store) -> list[dict[str, Any]] | None:
    """The ledger's rows; for a reader, None where nobody reads them, because the ledger does not know all of the log, or knows more by now."""
    if store.is_writer:
        return store.ledger_rows()
    with contextlib.suppress(sqlite3.Error, OSError, ValueError), Listing(store.folder) as listing:
        return listing.last(None, everything=True) if listing.seq == store.state.seq else None
    return None


def _replayed(store: Store, history: list[Entry], problems: list[str], each: Callable[[], Any]) -> float | None:
    """The relative difference between the memory and its replayed records, each of which is read and checked."""
    kept = store.memory
    memory = ResidualMemory(*store.manifest.sizes, kept.permutation.cpu(), kept.page_edits)
    if kept.reads is not None:
        memory.track()
        memory.page = kept.page  # C is of that page alone, so what earlier ones read need not be counted
    again, largest, largest_C = State(memory), _NONE, _NONE
    whole = not any(entry.forgotten for entry in history)
    for number, entry in enumerate(history):
        try:
            if whole and not problems:
                again.apply(entry)
            elif not entry.forgotten:
                entry.body()
        except ValueError as error:
            problems.append(str(error))
        if number % _EACH == 0 or number == len(history) - 1:  # rounding errors are relative to the largest norm
            largest = max(largest, memory.pages.norm())
            largest_C = max(largest_C, _size(memory))
        elif largest_C == _NONE:  # until C's page has begun, lest its edits come and go between two looks
            largest_C = max(largest_C, _size(memory))
        each()
    if problems or not whole:
        return None
    if memory.index.ids != kept.index.ids or (memory.index.signatures() != kept.index.signatures()).any():
        problems.append("the signatures are not those of the log")
    difference = memory.pages.norm(kept.pages) / largest
    if difference > _MOST or abs(memory.scale - kept.scale) > 1e-9 * memory.scale:
        problems.append(f"the memory differs from its log by {difference:.2g} of its norm")
    if memory.reads is not None and kept.reads is not None:
        newest = max(map(memory.page_of, again.entries), default=0)
        if newest != kept.page:
            problems.append(f"what is kept of earlier edits (C) is of page {kept.page}, the log's newest is {newest}")
        off = _apart(memory.reads, kept.reads) / largest_C
        if off > _MOST:
            problems.append(f"what is kept of earlier edits (C) differs from the log by {off:.2g} of its norm")
    return difference


def _size(memory: ResidualMemory) -> float:
    """The norm of C, as `_apart` measures it; 0 if it is not kept."""
    return 0.0 if memory.reads is None else _apart(memory.reads, None)


def _apart(one: Symmetric | LowRank, other: Symmetric | LowRank | None) -> float:
    """The norm of C's difference to another one, or to zeros; of the diagonal alone where one of them is in its small form, in which nothing else is
    that of the log (see `low_rank`)."""
    if isinstance(one, Symmetric) and not isinstance(other, LowRank):
        return one.norm(other)
    found = one.diagonal()
    return float((found if other is None else found - other.diagonal().to(found.device)).norm())
