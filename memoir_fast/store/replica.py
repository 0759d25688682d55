"""A copy of another store that is kept up to date by its records: what the origin tells, and what the copy does with it.

The log is the authority, so the copy needs no more than the origin's settings, its base file, and its records in order, each under its own
checksum and chained to the one before. Where updates were given up, a snapshot that holds them, and its pages, come first.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base import files
from ..base.json_text import parse
from ..errors import Damaged
from ..journal.memory_state import words_among
from ..journal.record import digest, read_entry
from . import manifest, page_files, snapshots
from .identity import check_same_memory as check_same_memory
from .identity import check_same_rule
from .log import segment_path
from .manifest import Manifest
from .store import Store

MARK = "follows.json"  # in the folder of a copy: what it is a copy of
_LONGEST_MARK = 1 << 16


def told(kept: Manifest, forgotten: bool) -> Manifest:
    """The part of an origin's `config.json` that its copies share; forgotten: whether updates were given up, which then only a snapshot holds."""
    return replace(kept, snapshots=kept.snapshots[:1] if forgotten else [])


def pages_of(folder: Path, kept: Manifest) -> list[str]:
    """The digests of the pages that the snapshots list which an origin told of, and which lie in a folder. Raises ValueError for a damaged one."""
    listed = (snapshots.pages_of(folder / one.file, one, kept).values() for one in kept.snapshots)
    return [*dict.fromkeys(page for pages in listed for page in pages)]


def page_file(page: str) -> str:
    """The name of the file of the page with this digest."""
    return page_files.file_of(page)


def origin_of_copy(folder: Path) -> str | None:
    """The address of what a folder is a copy of; None where it is none. Raises ValueError for a mark that is damaged."""
    path = folder / MARK
    if not path.exists() and not path.is_symlink():
        return None
    found = parse(files.read(path, _LONGEST_MARK), str(path))
    if not isinstance(found, dict) or not isinstance(found.get("origin"), str):
        raise ValueError(f"{path}: does not say what this folder is a copy of: move the folder away")
    return str(found["origin"])


def mark(folder: Path, origin: str) -> None:
    """Say that a folder is a copy. Raises OSError."""
    files.replace(folder / MARK, json.dumps({"origin": origin}).encode())


def whole_records(data: bytes, where: str) -> list[bytes]:
    """The records that `data` consists of, each checked against its own checksums. Raises Damaged, also where the last one is cut off."""
    found, view, offset = list[bytes](), memoryview(data), 0
    while offset < len(data):
        entry = read_entry(view[offset:], len(data) - offset, Path(where), offset)
        raw = bytes(view[offset : offset + entry.length])
        if digest(raw[entry.length - entry.body_length :]).hex() != entry.header["body"]:
            raise Damaged(f"{where}: the body of record {entry.seq} fails its checksum")
        found.append(raw)
        offset += entry.length
    return found


def make(
    folder: Path, kept: Manifest, tensors: Iterable[tuple[str, Path]], pages: Iterable[list[bytes]], origin: str
) -> None:
    """Make a copy in an empty folder.

    Args:
        kept: the origin's settings, as `told` gives them.
        tensors: (name, a file with its bytes) of the base file, the snapshots that `kept` names and the pages that these list; the files are moved.
        pages: all records of the origin, in order.
        origin: its address.

    Raises:
        ValueError: what the origin told does not make a store. OSError: it could not be written.
    """
    mark(folder, origin)
    for name, path in tensors:
        files.move(path, folder / name)
    with _appending(segment_path(folder, 1)) as descriptor:
        for page in pages:
            for raw in page:
                files.write_all(descriptor, raw)
    files.sync_folder(folder)
    kept.save(folder)  # last, because it makes the folder a store
    with Store(folder, writer=True) as made:  # which checks every record, and the chain from the first one on
        if made.state.seq > max((snapshot.seq for snapshot in kept.snapshots), default=0):
            made.compact()  # so that the next openings need not replay it all


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[int]:
    descriptor = files.open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        yield descriptor
        files.sync(descriptor)
        empty = not os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    if empty:
        path.unlink()


def link(raw: bytes) -> str:
    """What the record behind a whole one names as the record before it."""
    return read_entry(raw, len(raw), Path("record"), 0).link


def is_forgotten(raw: bytes) -> bool:
    """Whether a whole record is of an edit whose update was given up."""
    return read_entry(raw, len(raw), Path("record"), 0).forgotten


def link_of(store: Store) -> str:
    """What the origin's record behind this copy's last one names as the record before it."""
    return store._writer().chain.link or ""


def take(store: Store, raws: list[bytes]) -> None:
    """Append the origin's next records to a copy that is open for writing: all or none, each with what it does to the memory.

    Raises:
        Damaged: a record does not follow the copy's last one. StoreError: they could not be kept.
    """
    with store.writing:
        store._take_in(store._writer().append_whole(raws))


def take_settings(store: Store, now: Manifest, base: Path | None) -> None:
    """Use the origin's present settings and base file in a copy that is open for writing.

    Args:
        base: a file with the bytes of the new base file, which is moved; None if it is still the same.

    Raises:
        StoreError: the origin is another memory now. ValueError: the base file is damaged.
    """
    with store.writing:
        before = store.manifest
        check_same_memory(store.folder, before, now)
        kept = replace(now, snapshots=before.snapshots)
        if base is not None:
            files.move(base, store.folder / kept.base_file)
            tensors: dict[str, Any] = manifest.read_base(store.folder, kept)
            check_same_rule(
                store.folder, (store.memory.background, store.words), (tensors["background"], words_among(tensors))
            )
        store.keep(kept)
        if base is not None:
            store.take_base(tensors)
            if before.base_file != kept.base_file:
                files.remove(store.folder / before.base_file)
