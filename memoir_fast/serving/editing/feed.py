"""What replicas follow: the store's settings, its base file, and its records, as they were written, each behind the one before."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from pathlib import Path

from ...base import files
from ...journal.record import Entry, digest
from ...store import Store
from ...store.replica import page_file, pages_of, told
from ..replication import SEQ, SETTINGS
from .refused import Refused

PAGE = 4 << 20  # bytes of records in an answer; a longer record comes alone
_AGAIN = "take the store anew: GET /memoir/store"


@dataclass(frozen=True)
class _Place:
    """Where a record lies."""

    path: Path
    offset: int
    length: int
    link: str
    forgotten: bool


class Feed:
    """A store's acknowledged records, for any number of threads.

    Args:
        store: open; only the thread that changes it may call `add`.
    """

    def __init__(self, store: Store):
        self._store, self._lock = store, threading.Lock()
        self._places: list[_Place] = []  # record n at n - 1
        self._forgotten = False
        self._waiting: list[tuple[int, str, Future[None]]] = []
        self._settings, self._digest = b"", ""
        self._listed: tuple[tuple[str, ...], dict[str, str]] = (), {}  # the snapshots whose pages these are

    def add(self, entries: list[Entry]) -> None:
        """Take in the store's new records, and its settings."""
        with self._lock:
            for entry in entries:
                self._places.append(_Place(entry.path, entry.offset, entry.length, entry.link, entry.forgotten))
                self._forgotten |= entry.forgotten
            self._kept = told(self._store.manifest, self._forgotten)
            self._settings = self._kept.to_bytes()
            self._digest = digest(self._settings).hex()
            ready = [done for seq, settings, done in self._waiting if self._has_more(seq, settings)]
            self._waiting = [one for one in self._waiting if one[2] not in ready]
        for done in ready:
            with contextlib.suppress(InvalidStateError):  # whoever waited has left
                done.set_result(None)

    def _has_more(self, after: int, settings: str) -> bool:
        return len(self._places) > after or settings != self._digest

    @property
    def headers(self) -> dict[str, str]:
        """What every answer says: how far the records go, and which settings they are read by."""
        with self._lock:
            return {SEQ: str(len(self._places)), SETTINGS: self._digest}

    @property
    def settings(self) -> tuple[bytes, dict[str, str]]:
        """A `config.json` that names the base file and, where updates were given up, a snapshot; and the headers at that moment."""
        with self._lock:
            return self._settings, {SEQ: str(len(self._places)), SETTINGS: self._digest}

    def tensors(self, wanted: str) -> Path:
        """The file of this digest that the settings name, or a snapshot that they name lists. Raises Refused where it is another one by now."""
        with self._lock:
            named = {self._kept.base: self._kept.base_file} | {one.digest: one.file for one in self._kept.snapshots}
            if wanted not in named:
                named |= self._pages()
        if wanted not in named:
            raise Refused(409, f"the store's settings name no file with digest {wanted} any more: {_AGAIN}")
        return self._store.folder / named[wanted]

    def _pages(self) -> dict[str, str]:
        """The files of the pages that the settings' snapshots list, by digest. Raises Refused where a snapshot is gone or damaged."""
        held = tuple(one.digest for one in self._kept.snapshots)
        if self._listed[0] != held:
            try:
                pages = pages_of(self._store.folder, self._kept)
            except ValueError as error:
                raise Refused(503, f"{error}: verify the store of the editing service", wait=10) from None
            self._listed = held, {page: page_file(page) for page in pages}
        return self._listed[1]

    def page(self, after: int, link: str) -> bytes:
        """The records behind record `after`, which has this digest: as many as go into a page.

        Raises:
            Refused: this store has no such record; or the update of one that follows was given up.
        """
        with self._lock:
            here = "" if not after else self._places[after - 1].link if after <= len(self._places) else None
            if here != link:
                raise Refused(409, f"this store's record {after} is another one: it was put back or replaced; {_AGAIN}")
            wanted, size = list[_Place](), 0
            for place in self._places[after:]:
                if wanted and size + place.length > PAGE:
                    break
                wanted.append(place)
                size += place.length
        return _read(wanted)

    async def more(self, after: int, settings: str, seconds: float) -> None:
        """Wait until there are records behind `after`, or other settings, at most for some seconds."""
        done: Future[None] = Future()
        with self._lock:
            if self._has_more(after, settings):
                return
            self._waiting.append((after, settings, done))
        try:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(done), seconds)
        finally:
            with self._lock:
                self._waiting = [one for one in self._waiting if one[2] is not done]


def _read(places: list[_Place]) -> bytes:
    parts, opened = [], dict[Path, int]()
    try:
        for place in places:
            if place.path not in opened:
                opened[place.path] = files.open_regular(place.path, os.O_RDONLY)
            parts.append(os.pread(opened[place.path], place.length, place.offset))
            if len(parts[-1]) != place.length:
                raise Refused(503, f"{place.path.name} was cut short: verify the store of the editing service", wait=10)
    finally:
        for descriptor in opened.values():
            os.close(descriptor)
    return b"".join(parts)
