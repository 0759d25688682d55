"""A replica: keeps a copy of an editing service's store up to date, over HTTP, and tells vLLM of it.

The copy is a store like any other, with this process as its one writer. What arrives is checked before it is kept: every record by its own checksums
and by its place behind the one before, the files of tensors by the digests that the settings name. A page of records is kept whole or not at all,
so whoever reads the copy sees a number of whole edits, and a connection that breaks costs a page.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

from ..errors import StoreError, quoted
from ..store import Store, is_store, replica
from ..store.manifest import MOST_BASE, MOST_CONFIG, Manifest
from . import place
from .client import Client, NotAnswered
from .replication import CONFIG_PATH, RECORDS_PATH, SEQ, SETTINGS, TENSORS_PATH

KEY = "MEMOIR_FAST_FOLLOW_KEY"  # the variable with the key of the editing service
_LOG = logging.getLogger("memoir_fast.following")
_WAIT = 5.0  # seconds for which the service holds a request until there is something new; it ends no sooner than that
_TIMEOUT = 60.0  # seconds of silence
_MOST_PAGE = 1 << 30  # bytes: the service sends at most 4 MiB, or one record, however long
_FIRST, _LONGEST = 0.1, 10.0  # seconds between two tries


class _AnotherStore(Exception):
    """The service has another store by now, or one without what the copy needs next."""


class Origin:
    """The editing service that is followed.

    Args:
        url: such as http://127.0.0.1:8100; key: one with the role read.

    Raises:
        ValueError: the url is not one.
    """

    def __init__(self, url: str, key: str | None):
        self.client = Client(url, key, "--follow")
        self.url = self.client.url

    def settings(self) -> tuple[Manifest, str]:
        """The store's settings, and their digest. Raises NotAnswered, ValueError for what are none."""
        text, headers = self.client.ask(CONFIG_PATH, MOST_CONFIG, _TIMEOUT)
        return Manifest.from_bytes(text, Path(self.url)), headers.get(SETTINGS, "")

    def tensors(self, digest: str, to: Path) -> None:
        """Write the file of this digest. Raises NotAnswered, OSError."""
        self.client.fetch(f"{TENSORS_PATH}?{urlencode({'digest': digest})}", to, MOST_BASE, _TIMEOUT)

    def records(self, after: int, link: str, settings: str, wait: float = 0) -> tuple[list[bytes], int, str]:
        """The next whole records behind one; the number of the last that there is; and the digest of the settings.

        Raises:
            NotAnswered: the service did not answer. Damaged: the answer is not whole. _AnotherStore: it has no such record.
        """
        asked = urlencode({"after": after, "link": link, "settings": settings, "wait": wait})
        try:
            data, headers = self.client.ask(f"{RECORDS_PATH}?{asked}", _MOST_PAGE, _TIMEOUT)
        except NotAnswered as error:
            if error.status == 409:
                raise _AnotherStore(str(error)) from None
            raise
        seq = headers.get(SEQ, "")
        if not seq.isdigit() or len(seq) > 15:
            raise NotAnswered(f"its answer names no {SEQ}: is it `memoir-fast edit-server`, of this version?")
        return replica.whole_records(data, self.url), int(seq), headers.get(SETTINGS, "")


class Follower:
    """Keeps a copy.

    Args:
        origin: what is followed. folder: where the copy lies; it is made if there is none.
        tell: is called with the number of the copy's last record whenever it has changed, and with True if the store is another one, or is
            read by other settings, than before.

    Attributes:
        trouble: why the last try failed, "" if it did not.

    Raises:
        ValueError: the folder holds something else. StoreError: another process keeps the copy.
    """

    def __init__(self, origin: Origin, folder: Path, tell: Callable[[int, bool], None] = lambda seq, anew: None):
        self.origin, self.folder, self._tell = origin, folder, tell
        self.trouble, self._settings = "", ""
        self._stopped = threading.Event()
        place.tidy(folder)
        if is_store(folder) and not _ours(folder):
            raise ValueError(
                f"--store: {folder} is a store of its own, not the copy of one: name another folder for the copy"
            )
        self.store = Store(folder, writer=True) if is_store(folder) else None

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and leave the copy to others."""
        self.stop()
        if self.store is not None:
            self.store.close()
            self.store = None

    def stop(self) -> None:
        """Have `run` end, from any thread or signal."""
        self._stopped.set()

    @property
    def seq(self) -> int:
        """The number of the copy's last record, -1 without a copy."""
        return -1 if self.store is None else self.store.state.seq

    # ---- one step ------------------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Bring the copy to what the service has now. Raises NotAnswered where it does not answer, ValueError, OSError or StoreError where what it
        answers cannot be kept."""
        while self.step(0):
            pass

    def step(self, wait: float = _WAIT) -> bool:
        """Take over what is new, and tell of it; wait: seconds for something to come. Returns whether there is more. Raises as `catch_up`."""
        if self.store is None:
            self._take_anew("there is no copy yet")
            return True
        link = replica.link_of(self.store)
        try:
            page, last, settings = self.origin.records(self.seq, link, self._settings, wait if self._settings else 0)
            if settings != self._settings:
                self._take_settings()
                return True  # the page may hold records that the settings were not known for
        except _AnotherStore as error:
            self._take_anew(str(error))
            return True
        if any(replica.is_forgotten(raw) for raw in page):
            self._take_anew("the updates of edits that this copy lacks were given up, and only a snapshot holds them")
            return True
        if page:
            replica.take(self.store, page)
            _LOG.info("record %d of %d of %s is taken over", self.seq, last, self.origin.url)
            self._tell(self.seq, False)
        return self.seq < last

    def _take_settings(self) -> None:
        """Use the service's present settings. Raises _AnotherStore where they are not this store's."""
        assert self.store is not None
        before, (now, digest) = self.store.manifest, self.origin.settings()
        if before.store not in ("", now.store):
            raise _AnotherStore(f"it edits another store now ({quoted(now.store)})")
        if before.base_file == now.base_file and before.base != now.base:
            raise _AnotherStore("its base file is another one under the same name")
        changed = replica.told(before, False) != replica.told(now, False)
        if changed:
            with place.working(self.folder) as aside:
                base = None
                if before.base != now.base:
                    base = aside / "base"
                    self.origin.tensors(now.base, base)
                replica.take_settings(self.store, now, base)
            _LOG.info("the settings of %s are taken over", self.origin.url)
            self._tell(self.seq, True)
        self._settings = digest

    def _take_anew(self, why: str) -> None:
        """Make the copy from the first record on, in the place of an earlier one, which stays until the new one is whole."""
        _LOG.warning("the store of %s is taken anew: %s", self.origin.url, why)
        kept, digest = self.origin.settings()
        if self.store is not None:
            replica.check_same_memory(self.folder, self.store.manifest, kept)
        with place.beside(self.folder, _ours, "--store", "no copy of a store") as new:
            with place.working(self.folder) as aside:
                files = self._files(kept, aside)
                replica.make(new, kept, [(path.name, path) for path in files], self._pages(digest), self.origin.url)
            if self.store is not None:
                self.store.close()
                self.store = None
        self.store, self._settings = Store(self.folder, writer=True), digest
        _LOG.info("%s: a copy of %s up to record %d", self.folder, self.origin.url, self.seq)
        self._tell(self.seq, True)

    def _files(self, kept: Manifest, aside: Path) -> list[Path]:
        """The base file, the snapshots and the pages that these list, fetched into a folder. Raises as `catch_up`."""
        named = [(kept.base_file, kept.base), *((one.file, one.digest) for one in kept.snapshots)]
        for name, wanted in named:
            self.origin.tensors(wanted, aside / name)
        for page in replica.pages_of(aside, kept):
            named.append((replica.page_file(page), page))
            self.origin.tensors(page, aside / named[-1][0])
        return [aside / name for name, _ in named]

    def _pages(self, settings: str) -> Iterator[list[bytes]]:
        """All records that the service has by now."""
        after, link = 0, ""
        while True:
            try:
                page, last, now = self.origin.records(after, link, settings)
            except _AnotherStore as error:
                raise NotAnswered(f"its store was replaced while it was copied ({error})") from None
            if now != settings:
                raise NotAnswered("its settings were changed while it was copied")
            if page:
                after, link = after + len(page), replica.link(page[-1])
                yield page
            if after >= last:
                return
            if not page:
                raise NotAnswered(f"it has {last} records and sent none behind {after}")

    # ---- for as long as it runs ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Follow until `stop`: what fails is told once, and tried again."""
        pause = _FIRST
        while not self._stopped.is_set():
            try:
                self.step()
                if self.trouble:
                    _LOG.warning("%s answers again", self.origin.url)
                self.trouble, pause = "", _FIRST
            except (NotAnswered, ValueError, OSError, StoreError) as error:
                self._failed(str(error) or type(error).__name__)
                self._stopped.wait(max(pause, min(getattr(error, "wait", None) or 0, 60)))
                pause = min(2 * pause, _LONGEST)

    def _failed(self, reason: str) -> None:
        if reason != self.trouble:
            _LOG.warning(
                "%s cannot be followed, and is asked again; the copy stays at record %d: %s",
                self.origin.url,
                self.seq,
                reason,
            )
        self.trouble = reason
        if self.store is not None:
            with contextlib.suppress(StoreError):
                self.store.check_writable()
                return
            self.store.close()  # an append failed and could not be taken back: what is on the disk is read again
            self.store = None
            with contextlib.suppress(ValueError, OSError, StoreError):
                self.store = Store(self.folder, writer=True)


def _ours(folder: Path) -> bool:
    return replica.origin_of_copy(folder) is not None
