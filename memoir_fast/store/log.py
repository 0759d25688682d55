"""The log: numbered records in segment files, appended by one writer, read by anyone.

Segments are called `log-<first seq>.bin`; the last one is live, the others are the archive that undo reads.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..base import files
from ..errors import Damaged, StoreError
from ..journal.record import PREFIX, Entry, encode, read_entry

_NAME = re.compile(r"log-(\d{12})\.bin")
_WINDOW = 1 << 16  # bytes read at a time for headers


def segment_path(folder: Path, first: int) -> Path:
    """The segment whose first record is number `first`."""
    return folder / f"log-{first:012d}.bin"


def segments(folder: Path) -> list[tuple[int, Path]]:
    """(first seq, path) of the segments, in order."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted(found)


def scan(path: Path, seq: int, offset: int = 0) -> tuple[list[Entry], Damaged | None]:
    """The records of a segment from a byte on, the first of them numbered `seq`; and what stopped the reading, if not its end."""
    entries: list[Entry] = []
    descriptor = files.open_regular(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        while offset < size:
            data = os.pread(descriptor, _WINDOW, offset)
            if len(data) >= PREFIX and (wanted := PREFIX + int.from_bytes(data[4:8], "little")) > len(data):
                data = os.pread(descriptor, min(wanted, size - offset), offset)
            try:
                entry = read_entry(data, size - offset, path, offset)
            except Damaged as error:
                return entries, error
            if entry.seq != seq:
                return entries, Damaged(f"{path}: the record at byte {offset} has seq {entry.seq}, expected {seq}")
            entries.append(entry)
            offset, seq = offset + entry.length, seq + 1
    finally:
        os.close(descriptor)
    return entries, None


class History:
    """Reads the segments' headers.

    Args:
        folder: the store's.
        known_to: the last record that is known to be acknowledged.
        torn: what the log may end with and be no loss (an error of `scan`).
        report: for the writer, who cuts such an end off, where to say so; None for a reader, who leaves it alone.
    """

    def __init__(self, folder: Path, known_to: int, torn: type[Damaged], report: list[str] | None):
        self.folder, self.known_to, self.torn, self.report = folder, known_to, torn, report
        self._place: tuple[Path, int, int] | None = None  # where the last reading ended: segment, record, byte

    def read(self, after: int = 0) -> list[Entry]:
        """The records past number `after`, from every segment that may hold them.

        Raises:
            Damaged: a segment is missing, or damaged where records were acknowledged.
        """
        found: list[Entry] = []
        parts = segments(self.folder)
        for number, (first, path) in enumerate(parts):
            last = number == len(parts) - 1
            if not last and parts[number + 1][0] <= after + 1:
                continue
            expected = found[-1].seq + 1 if found else (first if after else 1)
            if first != expected:
                raise Damaged(
                    f"{path}: begins with record {first}, expected {expected}: a segment of the log is missing"
                )
            place = self._place
            if after and place is not None and place[:2] == (path, after):
                entries, problem = scan(path, after + 1, place[2])
            else:
                entries, problem = scan(path, first)
            found += entries
            if problem is not None:
                seq = found[-1].seq + 1 if found else max(first, after + 1)
                if not (last and isinstance(problem, self.torn)) or self.known_to >= seq:
                    raise Damaged(
                        f"{problem}. It was record {seq}, which is not the unfinished end of the log: put the file back from a copy"
                    )
                if self.report is not None:
                    _cut(path, entries[-1].offset + entries[-1].length if entries else 0)
                    self.report.append(
                        f"{path.name}: an unfinished record at its end was cut off (it was never acknowledged)"
                    )
        if found:
            self._place = (found[-1].path, found[-1].seq, found[-1].offset + found[-1].length)
        return [entry for entry in found if entry.seq > after]


def _cut(path: Path, end: int) -> None:
    with open(files.open_regular(path, os.O_RDWR), "rb+") as file:
        file.truncate(end)
        files.sync(file.fileno())


class Writer:
    """Appends to the live segment.

    Attributes:
        broken: a failed append could not be taken back; nothing more is written until the store is opened again.
    """

    def __init__(self, path: Path, end: int):
        self.path, self.end, self.broken = path, end, False
        self._descriptor = files.open_regular(path, os.O_RDWR | os.O_CREAT)

    def append(self, records: list[tuple[dict[str, Any], bytes]], durable: bool = True) -> list[Entry]:
        """Write records and, if `durable`, wait until they are on the disk. Fails whole: the segment is as it was.

        Raises:
            StoreError: the disk refused.
        """
        data = [encode(header, body) for header, body in records]
        try:
            os.lseek(self._descriptor, self.end, os.SEEK_SET)
            files.write_all(self._descriptor, b"".join(data))
            if durable:
                files.sync(self._descriptor)
        except BaseException as error:
            self.take_back()
            if isinstance(error, OSError):
                raise StoreError(f"{self.path}: writing failed ({error.strerror}); the edit was not made") from error
            raise
        entries = []
        for (_, body), raw in zip(records, data, strict=True):
            entries.append(read_entry(raw, len(raw), self.path, self.end))
            assert entries[-1].body_length == len(body)
            self.end += len(raw)
        return entries

    def take_back(self, entries: Sequence[Entry] = ()) -> None:
        """Cut off what was written after the last acknowledged record, or these last records."""
        end = entries[0].offset if entries else self.end
        try:
            os.ftruncate(self._descriptor, end)
            files.sync(self._descriptor)
        except OSError:
            self.broken = True
        self.end = end

    def sync(self) -> None:
        """Wait until everything written is on the disk. Raises OSError."""
        files.sync(self._descriptor)

    def close(self) -> None:
        """Close the segment; nothing happens when it is closed."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
