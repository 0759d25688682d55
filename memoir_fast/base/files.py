"""Files: regular ones only, written whole or not at all. Every system call on a store's files is here, so that
tests can make any of them fail."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def open_regular(path: Path, flags: int) -> int:
    """A file descriptor of a regular file; links and devices are refused, so that a store cannot reach outside its folder."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if path.is_symlink():
            raise ValueError(f"{path}: is a symbolic link; a store holds regular files only") from None
        if isinstance(error, FileNotFoundError):
            raise ValueError(f"{path}: there is no such file") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path}: is not a regular file")
    return descriptor


def read(path: Path) -> bytes:
    """The whole of a regular file."""
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        return file.read()


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, however many calls that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync(descriptor: int) -> None:
    """Wait until a file's bytes are on the disk."""
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make renames and new files of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes) -> None:
    """Write aside, flush to the disk, rename, flush the folder: a crash leaves the old file or the new one."""
    aside = path.with_name(path.name + ".part")
    aside.unlink(missing_ok=True)
    descriptor = open_regular(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        try:
            write_all(descriptor, data)
            sync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
