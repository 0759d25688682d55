"""Export a store to one file, import it again, and merge two stores.

A bundle is a sequence of records like the log's: first one with `config.json` and the base tensors; then, if updates
were given up, one with the snapshot that still holds them and one for each page that it lists; then the log.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base import files
from ..base.fingerprint import differences
from ..errors import Damaged, StoreError, quoted
from ..journal.journal import now
from ..journal.record import Entry, digest, encode, origin_of
from . import manifest, page_files, snapshots
from .log import Chain, entry_at, segment_path
from .manifest import Manifest
from .store import Store


def export_bundle(store: Store, path: str | Path) -> None:
    """Write a store with its whole history to one file, whole or not at all.

    Raises:
        StoreError: updates were given up, and no snapshot holds them.
        ValueError: a file of the store is damaged.
        OSError: the file could not be written.
    """
    path, kept = Path(path), store.manifest
    history = store.history()
    forgotten = any(entry.forgotten for entry in history)
    holding = kept.snapshots[:1] if forgotten else []
    if forgotten and not holding:
        raise StoreError(f"{store.folder}: updates were given up, and there is no snapshot that holds them")
    listed = [(one, snapshots.pages_of(store.folder / one.file, one, kept).values()) for one in holding]
    described = json.loads(replace(kept, snapshots=holding).to_bytes())

    def parts() -> Iterator[bytes]:
        yield encode({"seq": 0, "kind": "bundle", "config": described}, files.read(store.folder / kept.base_file))
        for snapshot, pages in listed:
            yield encode({"seq": 0, "kind": "snapshot"}, files.read(store.folder / snapshot.file))
            for page in pages:
                yield encode({"seq": 0, "kind": "page"}, page_files.bytes_of(store.folder, page))
        for entry in history:
            yield entry.raw()

    files.replace(path, parts())


def import_bundle(path: str | Path, folder: str | Path) -> Store:
    """Make a new store from a bundle and open it for writing. It gets a snapshot, so that the next opening is quick.

    Raises:
        ValueError: the file is not a bundle or is damaged, or the folder is not empty. The message names the record; no
            store is left behind.
        OSError: a file could not be read or written.
    """
    path, folder = Path(path), Path(folder)
    descriptor = files.open_regular(path, os.O_RDONLY, follow=True)
    try:
        return _imported(_entries(descriptor, path), path, folder)
    finally:
        os.close(descriptor)


def _entries(descriptor: int, path: Path) -> list[Entry]:
    """The records of an open bundle, each of them whole; no more than one body is held at a time."""
    found, offset, size = list[Entry](), 0, os.fstat(descriptor).st_size
    while offset < size:
        found.append(replace(entry_at(descriptor, size, path, offset), descriptor=descriptor))
        found[-1].body()
        offset += found[-1].length
    return found


def _imported(entries: list[Entry], path: Path, folder: Path) -> Store:
    """Make a store of a bundle's records."""
    if not entries or entries[0].header["kind"] != "bundle" or not isinstance(entries[0].header.get("config"), dict):
        raise Damaged(f"{path}: is not a bundle (its first record is not a bundle's head)")
    kept = Manifest.from_bytes(json.dumps(entries[0].header["config"]).encode(), path)
    boxed = [entry for entry in entries[1:] if entry.header["kind"] == "snapshot"]
    pages = [entry for entry in entries[1:] if entry.header["kind"] == "page"]
    log = entries[1 + len(boxed) + len(pages) :]
    chain = Chain(kept.store)
    for entry in log:
        chain = chain.then(entry)
    if len(boxed) != len(kept.snapshots) or [entry.seq for entry in log] != list(range(1, len(log) + 1)):
        raise Damaged(f"{path}: its records are not those of one store, in order")
    manifest.check_tensors(entries[0].body(), path, manifest.base_shapes(kept.sizes[0]))
    files.make_folder(folder)
    if any(folder.iterdir()):
        raise ValueError(f"{folder}: the folder of a new store must be empty")
    try:
        files.replace(folder / kept.base_file, entries[0].body())
        for snapshot, entry in zip(kept.snapshots, boxed, strict=True):
            files.replace(folder / snapshot.file, entry.body())
        for entry in pages:
            files.replace(folder / page_files.file_of(digest(entry.body()).hex()), entry.body())
        if log:
            files.replace(segment_path(folder, 1), (entry.raw() for entry in log))
        kept.save(folder)  # last, because it makes the folder a store
        return _with_snapshot(Store(folder, writer=True))
    except BaseException:
        for leftover in folder.iterdir():
            os.unlink(leftover)
        raise


def _with_snapshot(store: Store) -> Store:
    """The store, with a snapshot of all its records: without one, each opening would read and apply them again."""
    try:
        if store.state.seq > max((snapshot.seq for snapshot in store.manifest.snapshots), default=0):
            store.compact()
    except BaseException:
        store.close()
        raise
    return store


def merge(store: Store, other: Store) -> dict[str, list[int]]:
    """Add another store's active edits to this one, by this one's conflict policy.

    There is no model here to compare prompts, so two edits ask the same only if their prompts are the same text.
    Updates are added as they are, not optimised again; so edits that share columns disturb each other more than if one
    had been made after the other. A merge that was interrupted can simply be run again.

    Args:
        store: open for writing.
        other: a store with the same base model, permutation and settings.

    Returns:
        "added": the new ids; "superseded": ids here that were replaced; "rejected": ids of `other` that the policy
        "reject" kept out; and, if there are any, "known": ids here of edits that were merged before (whatever happened
        to them since) or came from here.

    Raises:
        ValueError: the stores do not belong to one memory, or an update of `other` is not kept or is damaged.
        StoreError: an edit could not be kept.
    """
    mine, theirs = store.manifest, other.manifest
    differing = differences(theirs.fingerprint, mine.fingerprint)
    for name, same in (("permutation", mine.permutation == theirs.permutation), ("fingerprint", not differing)):
        if not same:
            raise ValueError(
                f"{other.folder}: its {name} is not {store.folder}'s; only stores of one memory can be merged"
            )
    for name in ("layer", "top_k", "feature", "chat_template", "question_template", "write", "router"):
        if getattr(mine.config, name) != getattr(theirs.config, name):
            raise ValueError(f"{other.folder}: config.{name} is {quoted(getattr(theirs.config, name))}, "
                             f"{store.folder} has {quoted(getattr(mine.config, name))}")  # fmt: skip
    found: dict[str, list[int]] = {"added": [], "superseded": [], "rejected": []}
    known = {origin_of(entry.header): edit for edit, entry in store.state.entries.items()}
    for edit in other.state.active():
        if (before := known.get(origin_of(other.state.entries[edit].header))) is not None:
            found.setdefault("known", []).append(before)
            continue
        update, fact = other.state.update_of(edit), other.edits[edit]
        named = store.named(fact["key"])
        try:
            alike = [i for i in store.same_text(fact["prompt"]) if i != named]
            replaced = sorted({*store.conflicts(alike, fact["target"]), *([] if named is None else [named])})
        except StoreError:
            found["rejected"].append(edit)
            continue
        left = other.memory.scale / update.scale  # the part that the weight decay of later edits there has left of it
        values: dict[str, Any] = {
            name: tensor * left for name, tensor in update.values().items() if name in ("block", "G")
        }
        fact = {n: v for n, v in fact.items() if n not in ("id", "status", "seq")}
        fact |= {
            "codes": other.state.entries[edit].header.get("codes", []),
            "supersedes": replaced,
            "metadata": {**fact["metadata"], "merged_from": {"store": other.folder.name, "id": edit}},
            "origin": origin_of(other.state.entries[edit].header),
            "written": now(),
        }
        found["added"] += store.add([fact], [replace(update, decay=1.0, scale=store.memory.scale, **values)])
        found["superseded"] += replaced
    return found
