"""File access: regular files only, written completely or not at all. Every system call on a store's files is here, so
that tests can make any of them fail."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path


def open_regular(path: Path, flags: int, follow: bool = False) -> int:
    """A file descriptor of a regular file.

    Links, devices and pipes are refused, so a store cannot reach outside its folder. Opening does not wait for a pipe's
    other end.

    Args:
        path: the file.
        flags: for `os.open`.
        follow: follow a link; meant for files that the user names, not for a store's.

    Raises:
        ValueError: the file is missing, a link, or not a regular file.
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | (0 if follow else os.O_NOFOLLOW) | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    except OSError as error:
        if path.is_symlink() and not follow:
            raise ValueError(f"{path}: is a symbolic link; a store holds regular files only") from None
        if error.errno == errno.ELOOP:
            raise ValueError(f"{path}: is a link that leads back to itself") from None
        if isinstance(error, FileNotFoundError):
            raise ValueError(f"{path}: there is no such file") from None
        if error.errno in (errno.ENXIO, errno.EISDIR, errno.ENODEV):  # a pipe or socket, a folder, a device
            raise ValueError(f"{path}: is not a regular file") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path}: is not a regular file")
    return descriptor


def read(path: Path, most: int | None = None, follow: bool = False) -> bytes:
    """All bytes of a regular file.

    Args:
        path: the file.
        most: the most bytes that such a file can have; None for any number.
        follow: see `open_regular`.

    Raises:
        ValueError: it is missing, a link, not a regular file, or larger than `most`.
        OSError: it cannot be read.
    """
    with os.fdopen(open_regular(path, os.O_RDONLY, follow), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise ValueError(f"{path}: has {size} bytes, more than the {most} that such a file can have")
        return file.read()


def fill(descriptor: int, view: memoryview) -> int:
    """Read from an open file, from where it stands, until a writable view is full or the file ends; returns the bytes read. Raises OSError."""
    done = 0
    while done < len(view) and (count := os.readv(descriptor, [view[done:]])):
        done += count
    return done


def parts(path: Path, size: int = 1 << 20) -> Iterator[bytes]:
    """All bytes of a regular file, at most `size` at a time. Raises as `read`."""
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb", 0) as file:
        while part := file.read(size):
            yield part


def read_named(path: Path, what: str, most: int) -> bytes:
    """All bytes of a file that the user named in the argument `what`. Raises as `read`, with `what` in the message."""
    if not path.exists():
        raise ValueError(f"{what}: there is no file {str(path)!r}")
    try:
        return read(path, most, follow=True)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, in as many calls as that takes. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync(descriptor: int) -> None:
    """Wait until a file's bytes are on disk. Raises OSError."""
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a folder's renames and new files durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes that call this; waits for the one that holds the lock."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # also releases the lock


def try_lock(descriptor: int) -> bool:
    """Lock an open file against others that call this, until it is closed or the process ends. Returns whether it was free.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def replace_shared(path: Path, data: bytes) -> None:
    """Write a file (of a cache) that other processes may write at the same time; the last one wins.

    Each writes to a temporary file of its own and renames it. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".part", dir=path.parent)
    try:
        try:
            write_all(descriptor, data)
        finally:
            os.close(descriptor)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def replace(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write aside, flush to the disk, rename, flush the folder: a crash leaves the old file or the new one.

    Args:
        path: the file.
        data: its bytes, or parts of them, of which only one is held at a time.

    Raises:
        ValueError: a folder stands in the file's place, or in that of the one aside. OSError: the disk refused.
    """
    aside = path.with_name(path.name + ".part")
    remove(aside)
    descriptor = open_regular(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        try:
            for part in (data,) if isinstance(data, bytes) else data:
                write_all(descriptor, part)
            sync(descriptor)
        finally:
            os.close(descriptor)
        move(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def move(source: Path, target: Path) -> None:
    """Rename a file, replacing the one at the target. Raises ValueError for a folder in the place of either, OSError."""
    for path in (source, target):
        check_no_folder(path)
    os.replace(source, target)


def remove(path: Path) -> None:
    """Delete a file, if it is there. Raises ValueError for a folder in its place, OSError."""
    check_no_folder(path)
    path.unlink(missing_ok=True)


def check_no_folder(path: Path) -> None:
    """Raise ValueError if a folder stands in a file's place."""
    if is_folder(path):
        raise ValueError(f"{path}: is a folder where a file belongs: move it away")


def is_folder(path: Path) -> bool:
    """Whether this is a folder and not a link to one."""
    return path.is_dir() and not path.is_symlink()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing. Raises ValueError for a file in the place of one,
    OSError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())
        raise ValueError(f"{file}: is a file where a folder belongs: name another folder") from None
