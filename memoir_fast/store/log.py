"""The log: numbered records in segment files, appended by one writer and read by anyone.

A segment is named `log-<number of its first record>.bin`. The last one is live; the others are the archive that undo
reads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base import files
from ..errors import Altered, CutOff, Damaged, StoreError, quoted
from ..journal.record import DIGEST, LONGEST_HEADER, MAGIC, PREFIX, Entry, encode, read_entry, was_whole

_NAME = re.compile(r"log-(\d{12})\.bin")
_WINDOW = 1 << 13  # bytes read at a time for headers; that of an edit with a dozen wordings is longer
_LONGEST = PREFIX + LONGEST_HEADER
# Bytes searched at a time for a record, and bytes read in all before the search is given up.
_SEARCH, _MOST_SEARCHED = 1 << 20, 256 << 20


def segment_path(folder: Path, first: int) -> Path:
    """The path of the segment whose first record has number `first`."""
    return folder / f"log-{first:012d}.bin"


def segments(folder: Path) -> list[tuple[int, Path]]:
    """(number of the first record, path) of each segment, in order."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted(found)


def scan(path: Path, seq: int, offset: int = 0, before: Chain | None = None) -> tuple[list[Entry], Damaged | None]:
    """Read a segment's records.

    Args:
        path: the segment.
        seq: the number that the first record must have.
        offset: the byte to start at.
        before: the chain that the first record must continue; None to check nothing.

    Returns:
        the records, and the damage that stopped the reading; None if it reached the file's end.

    Raises:
        ValueError: the segment is not a regular file.
    """
    entries: list[Entry] = []
    descriptor = files.open_regular(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        while offset < size:
            try:
                entry = entry_at(descriptor, size, path, offset)
                if entry.seq != seq:
                    raise Damaged(f"{path}: the record at byte {offset} has seq {entry.seq}, expected {seq}")
                before = before.then(entry) if before is not None else None
            except Damaged as error:
                whole = was_whole(os.pread(descriptor, min(_LONGEST, size - offset), offset))
                changed = Altered(f"{path}: the record at byte {offset} was changed after it was written")
                return entries, changed if whole else error
            entries.append(entry)
            offset, seq = offset + entry.length, seq + 1
    finally:
        os.close(descriptor)
    return entries, None


def entry_at(descriptor: int, size: int, path: Path, offset: int) -> Entry:
    """The record at a byte of an open file of `size` bytes; only its header is read. Raises Damaged as `read_entry`."""
    data = os.pread(descriptor, _WINDOW, offset)
    if len(data) >= PREFIX and _WINDOW < (wanted := PREFIX + int.from_bytes(data[4:8], "little")) <= _LONGEST:
        data = os.pread(descriptor, min(wanted, size - offset), offset)
    return read_entry(data, size - offset, path, offset)


@dataclass(frozen=True)
class Chain:
    """The place in the log that each record states: the store's name, and the digest of the record before it.

    Records of format versions 1 and 2 state neither; after a record that does, every record must.

    Attributes:
        store: the store's name, "" if it has none yet.
        link: the last record's digest (`Entry.link`); None if unknown.
        says: whether the last record stated its place.
    """

    store: str
    link: str | None = ""
    says: bool = False

    def then(self, entry: Entry) -> Chain:
        """The chain with one more record. Raises Altered if that belongs to another store or after another record."""
        name, after = entry.header.get("store"), entry.header.get("after")
        where = f"{entry.path}: record {entry.seq} at byte {entry.offset}"
        if name is not None and name != self.store:
            raise Altered(f"{where} is of another store ({quoted(name)}, this one is {quoted(self.store)})")
        if (after is None and self.says) or (after is not None and self.link is not None and after != self.link):
            raise Altered(
                f"{where} was not written behind record {entry.seq - 1} of this store, but behind another one"
            )
        return Chain(self.store, entry.link, after is not None)


def whole_behind(path: Path, offset: int) -> bool:
    """Whether a whole record follows somewhere after a byte. If so, the bytes there are damaged and not the log's
    unfinished end. Also True if the search would take too long to tell."""
    descriptor, spent = files.open_regular(path, os.O_RDONLY), 0
    try:
        size = os.fstat(descriptor).st_size
        while (offset := _next_data(descriptor, offset, size)) < size:
            window = os.pread(descriptor, _SEARCH, offset)
            place = window.find(MAGIC)
            while place >= 0:
                data = os.pread(descriptor, PREFIX, offset + place)
                wanted = PREFIX + int.from_bytes(data[4:8], "little")
                left = size - offset - place
                if wanted <= min(_LONGEST, left):
                    spent += wanted
                    with contextlib.suppress(Damaged):
                        read_entry(os.pread(descriptor, wanted, offset + place), left, path, offset + place)
                        return True
                if spent > _MOST_SEARCHED:
                    return True
                place = window.find(MAGIC, place + 1)
            if len(window) < len(MAGIC):
                break
            offset += len(window) - len(MAGIC) + 1
    finally:
        os.close(descriptor)
    return False


def _next_data(descriptor: int, offset: int, size: int) -> int:
    """The next offset that is not in a hole (a sparse file can be of any size)."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else offset  # no more data, or a file system that cannot tell


def _data_end(descriptor: int, offset: int, size: int) -> int:
    """Where the last bytes behind `offset` end that are not in a hole."""
    stop = offset
    try:
        while (offset := _next_data(descriptor, offset, size)) < size:
            stop = offset = os.lseek(descriptor, offset, os.SEEK_HOLE)
    except OSError:  # a file system that does not say
        return size
    return stop


class History:
    """Reads the records' headers from all segments.

    Args:
        folder: the store's.
        name: the store's name.
        known_to: the number of the last record that is known to be acknowledged.
        torn: the kind of damage at the log's end that counts as an unfinished write.
        report: gets a sentence about an unfinished end.
        cuts: True for the writer, which sets an unfinished end aside; a reader leaves it alone.
    """

    def __init__(self, folder: Path, name: str, known_to: int, torn: type[Damaged], report: list[str], cuts: bool):
        self.folder, self.name, self.known_to = folder, name, known_to
        self.torn, self.report, self.cuts = torn, report, cuts
        self._last: tuple[Entry, Chain] | None = None  # the record at which the last reading ended

    def read(self, after: int = 0) -> list[Entry]:
        """The records with numbers above `after`, in order.

        Raises:
            Damaged: a segment is missing, is damaged where records were acknowledged, or holds a record out of place.
        """
        found: list[Entry] = []
        parts = segments(self.folder)
        chain = Chain(self.name)
        for number, (first, path) in enumerate(parts):
            last = number == len(parts) - 1
            if not last and parts[number + 1][0] <= after + 1:
                continue
            expected = found[-1].seq + 1 if found else (first if after else 1)
            if first != expected:
                raise Damaged(
                    f"{path}: begins with record {first}, expected {expected}: a segment of the log is missing"
                )
            begun = self._last
            if begun is not None and not found and (begun[0].path, begun[0].seq) == (path, after):
                chain = begun[1]
                entries, problem = scan(path, after + 1, begun[0].offset + begun[0].length, chain)
            else:
                chain = chain if found or first == 1 else Chain(self.name, None)
                entries, problem = scan(path, first, 0, chain)
            whole = self._whole(entries) if last else len(entries)
            if whole < len(entries) and problem is None:
                problem = CutOff(f"{path}: the change that record {entries[whole].seq} begins is cut off")
            end = entries[-1].offset + entries[-1].length if entries else self._end_of(path)
            cut = entries[whole].offset if whole < len(entries) else end
            entries = entries[:whole]
            found += entries
            if problem is not None:
                seq = found[-1].seq + 1 if found else max(first, after + 1)
                self._unfinished(path, end, seq, problem, last, cut)
            for entry in entries:
                chain = chain.then(entry)
        if found:
            self._last = (found[-1], chain)
        return [entry for entry in found if entry.seq > after]

    def chain(self) -> Chain:
        """The chain that the next record continues."""
        return self._last[1] if self._last is not None else Chain(self.name)

    def still_there(self) -> bool:
        """Whether the last record read is still where it was. The writer may have taken it back or rewritten its
        segment."""
        if self._last is None:
            return True
        entry = self._last[0]
        try:
            descriptor = files.open_regular(entry.path, os.O_RDONLY)
        except ValueError:
            return False
        try:
            size = os.fstat(descriptor).st_size
            data = os.pread(descriptor, PREFIX, entry.offset)
        finally:
            os.close(descriptor)
        same = data[-DIGEST:].hex() == entry.link or entry.header.get("was") == entry.link
        return size >= entry.offset + entry.length and same

    def _end_of(self, path: Path) -> int:
        return (
            self._last[0].offset + self._last[0].length if self._last is not None and self._last[0].path == path else 0
        )

    def _whole(self, entries: list[Entry]) -> int:
        """How many records of the log's last segment belong to changes that are there whole: its writer may have been interrupted within one
        of several records. One of which a record was acknowledged is whole: a replica takes them in pieces."""
        number = len(entries)
        missing = entries[-1].header.get("more", 0) if entries else 0
        if not missing:
            return number
        while number and entries[number - 1].header.get("more", 0) == missing:
            number, missing = number - 1, missing + 1
        return number if self.known_to < entries[number].seq else len(entries)

    def _unfinished(self, path: Path, end: int, seq: int, problem: Damaged, last: bool, cut: int) -> None:
        """Treat the problem as the log's unfinished end if it can be that; otherwise raise Damaged. end: where the last whole record ends;
        cut: where the last whole change does."""
        if not last or not isinstance(problem, self.torn) or isinstance(problem, Altered) or self.known_to >= seq:
            raise Damaged(
                f"{problem}. It was record {seq}, which is not the unfinished end of the log: put the file back from a copy"
            )
        if whole_behind(path, end + 1):
            raise Damaged(
                f"{problem}. It was record {seq}; whole records follow it, so it is not the unfinished end of the log: "
                f"put the file back from a copy, or cut it at byte {cut} yourself to give them up"
            )
        if self.cuts:
            aside = f"unfinished-{seq:012d}.bin"
            _set_aside(path, cut, self.folder / aside)
            self.report.append(
                f"{path.name}: an unfinished record at its end was cut off (it was never acknowledged); its bytes are in {aside}"
            )
        else:
            self.report.append(
                f"{path.name}: ends within record {seq}, which is not read: its writer is at work, or was interrupted"
            )


def check_reaches(folder: Path, seq: int, known_to: int) -> None:
    """Raise Damaged where a log that ends at record `seq` lacks records that were acknowledged, `known_to` the last of them."""
    if seq < known_to:
        raise Damaged(
            f"{folder}: the log ends at record {seq}, but {known_to} records were acknowledged: a segment is missing or cut short. Put it back "
            "from a copy; or, if ledger.sqlite came from elsewhere or from a newer copy, move it away and open the store again"
        )


def _set_aside(path: Path, end: int, aside: Path) -> None:
    """Move a segment's end to a file of its own, without a hole behind its last byte."""
    with open(files.open_regular(path, os.O_RDWR), "rb+") as file:
        stop = _data_end(file.fileno(), end, os.fstat(file.fileno()).st_size)
        file.seek(end)
        files.replace(aside, file.read(stop - end))
        file.truncate(end)
        files.sync(file.fileno())


class Writer:
    """Appends to the live segment.

    Args:
        path: the segment, made if it does not exist.
        end: its length in bytes.
        chain: the chain that the next record continues.

    Attributes:
        broken: a failed append could not be taken back; nothing more is written until the store is opened again.
    """

    def __init__(self, path: Path, end: int, chain: Chain):
        self.path, self.end, self.chain, self.broken = path, end, chain, False
        self._place = path.absolute()
        self._descriptor = files.open_regular(path, os.O_RDWR | os.O_CREAT)

    def append(self, records: list[tuple[dict[str, Any], bytes]], durable: bool = True) -> list[Entry]:
        """Write records, all or none, and if `durable`, wait until they are on disk. Each says how many of the change are still to come
        (`more`), so that a part of them, should this process end meanwhile, is not taken for the change.

        Args:
            records: (header, body) each; the store's name and the link to the record before are added here.

        Raises:
            StoreError: writing failed, or another process changed the segment; see `check`.
            ValueError: a header is too large.
        """
        raws, chain = [], self.chain
        for left, (header, body) in zip(reversed(range(len(records))), records, strict=True):
            named = {"store": chain.store} if chain.store else {}
            more = {"more": left} if left else {}
            raws.append(encode({**header, **named, "after": chain.link, **more}, body))
            chain = chain.then(read_entry(raws[-1], len(raws[-1]), self.path, self.end))
        return self.append_whole(raws, durable)

    def append_whole(self, raws: list[bytes], durable: bool = True) -> list[Entry]:
        """Write records that state their place already, as `append` does. Raises Altered, before anything is written, for one that does not
        belong behind the record before it."""
        self.check()
        chain, entries, end = self.chain, list[Entry](), self.end
        for raw in raws:
            entries.append(read_entry(raw, len(raw), self.path, end))
            chain, end = chain.then(entries[-1]), end + len(raw)
        try:
            os.lseek(self._descriptor, self.end, os.SEEK_SET)
            files.write_all(self._descriptor, b"".join(raws))
            if durable:
                files.sync(self._descriptor)
        except BaseException as error:
            self.take_back()
            if isinstance(error, OSError):
                raise StoreError(f"{self.path}: writing failed ({error.strerror}); the edit was not made") from error
            raise
        self.end, self.chain = end, chain
        return entries

    def check(self) -> None:
        """Raise StoreError unless the segment ends where this writer left it. (Someone may have deleted the lock or
        replaced the folder.)"""
        try:
            here, named = os.fstat(self._descriptor), os.stat(self._place, follow_symlinks=False)
            alone = here.st_size == self.end and (here.st_dev, here.st_ino) == (named.st_dev, named.st_ino)
        except OSError:
            alone = False
        if not alone:
            self.broken = True
            raise StoreError(
                f"{self.path}: was changed or replaced by another process since this one wrote to it; nothing was changed. Open the store "
                "again"
            )

    def take_back(self, entries: Sequence[Entry] = ()) -> None:
        """Cut off these last records; without any, whatever was written after the last acknowledged record."""
        end = entries[0].offset if entries else self.end
        if entries:
            after = entries[0].header.get("after")
            self.chain = Chain(self.chain.store, after, after is not None)
        try:
            os.ftruncate(self._descriptor, end)
            files.sync(self._descriptor)
        except OSError:
            self.broken = True
        self.end = end

    def sync(self) -> None:
        """Wait until everything written is on disk. Raises OSError, and StoreError as `check`."""
        self.check()
        files.sync(self._descriptor)

    def close(self) -> None:
        """Close the segment; closing twice is fine."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
