"""The log: numbered records in segment files, appended by one writer, read by anyone.

Segments are called `log-<first seq>.bin`; the last one is live, the others are the archive that undo reads.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from . import files
from .record import PREFIX, Damaged, Entry, encode, read_entry

_NAME = re.compile(r"log-(\d{12})\.bin")
_WINDOW = 1 << 16  # bytes read at a time for headers


def segment_path(folder: Path, first: int) -> Path:
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


class Writer:
    """Appends to the live segment.

    Attributes:
        broken: a failed append could not be taken back; nothing more is written until the store is opened again.
    """

    def __init__(self, path: Path, end: int):
        self.path, self.end, self.broken = path, end, False
        self._descriptor = files.open_regular(path, os.O_RDWR | os.O_CREAT)

    def append(self, records: list[tuple[dict, bytes]], durable: bool = True) -> list[Entry]:
        """Write records and, if `durable`, wait until they are on the disk. Fails whole: the segment is as it was."""
        data = [encode(header, body) for header, body in records]
        try:
            os.lseek(self._descriptor, self.end, os.SEEK_SET)
            files.write_all(self._descriptor, b"".join(data))
            if durable:
                files.sync(self._descriptor)
        except BaseException as error:
            self.take_back()
            if isinstance(error, OSError):
                raise files.StoreError(
                    f"{self.path}: writing failed ({error.strerror}); the edit was not made"
                ) from error
            raise
        entries = []
        for (_, body), raw in zip(records, data, strict=True):
            entries.append(read_entry(raw, len(raw), self.path, self.end))
            assert entries[-1].body_length == len(body)
            self.end += len(raw)
        return entries

    def take_back(self, entries: list[Entry] = ()) -> None:
        """Cut off what was written after the last acknowledged record, or these last records."""
        end = entries[0].offset if entries else self.end
        try:
            os.ftruncate(self._descriptor, end)
            files.sync(self._descriptor)
        except OSError:
            self.broken = True
        self.end = end

    def sync(self) -> None:
        files.sync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
