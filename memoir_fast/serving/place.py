"""Folders that are replaced as a whole, and what is unfinished beside them.

What a process works in lies in one folder beside its place, under a lock that the operating system frees when the process ends, however it ends. So
whoever works at the same place next can tell what was left behind from what somebody still works in.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ..base import files
from ..errors import brief

_LOG = logging.getLogger("memoir_fast.serving")
_PART = ".memoir-fast-export-"  # begins the names of the folders that are worked in
_LOCK, _NEW, _OLD = (
    "lock",
    "new",
    "old",
)  # in such a folder: its lock, what is being filled, and what that takes the place of
_TRIES = 100  # to make a folder that nobody takes for a leftover before it is locked


@contextlib.contextmanager
def beside(to: Path, ours: Callable[[Path], bool], name: str, what: str) -> Iterator[Path]:
    """A folder to fill, which takes the place of `to` when it is whole: what breaks off leaves the earlier one.

    Args:
        ours: whether a folder may be replaced; name: of the argument that `to` is, for messages; what: an earlier one is, for messages.

    Raises:
        ValueError: `to` holds something else, or cannot be made or replaced.
    """
    with _told(to, name, "cannot be looked into"):
        to = to.resolve()
        tidy(to)
        taken = to.exists()
        if taken and any(to.iterdir()) and not ours(to):
            raise ValueError(f"{name}: {to} is not empty and {what}: choose another folder")
    with contextlib.ExitStack() as stack:
        with _told(to, name, "cannot be made"):
            to.parent.mkdir(parents=True, exist_ok=True)
            work = stack.enter_context(working(to))
            (work / _NEW).mkdir()
        yield work / _NEW
        with _told(to, name, "cannot be replaced"):
            _replace(work, to, taken)


@contextlib.contextmanager
def working(to: Path) -> Iterator[Path]:
    """A folder for what is unfinished, beside `to` and on the same file system; nothing is left of it. If the process is killed, `tidy` removes it.

    Raises:
        OSError: it cannot be made.
    """
    to = to.resolve()
    folder, lock = _made(to)
    try:
        yield folder
    finally:
        try:
            _clear(folder, to)
        except OSError:  # what broke off before is what its caller should hear of
            _LOG.exception("%s: what stood there lies in %s now, and could not be put back", to, folder / _OLD)
        if lock is not None:
            os.close(lock)


def tidy(to: Path) -> None:
    """Remove what processes that were killed left beside `to`, and put back what one had moved aside to replace it. Nothing is removed whose process
    lives, here or on another machine that shares the file system and its locks, nor where that cannot be known."""
    with contextlib.suppress(
        OSError, RuntimeError
    ):  # no such place, or a link that leads to itself: whoever uses it says so
        to = to.resolve()
        for folder in to.parent.glob(f"{_prefix(to)}*"):
            with contextlib.suppress(OSError, ValueError):  # it is gone by now, or is nobody's leftover
                _tidy(folder, to)


def _tidy(folder: Path, to: Path) -> None:
    """As `tidy`, one folder. Raises OSError or ValueError where it is not what this module makes."""
    if not files.is_folder(folder):
        return
    if not (folder / _LOCK).exists():
        folder.rmdir()  # if it is empty; a process that lives and was about to lock it makes another one
        return
    lock = files.open_regular(folder / _LOCK, os.O_RDWR)
    try:
        if files.try_lock(lock):
            _clear(folder, to)
            _LOG.warning("%s: what a process that was killed had left in %s is removed", to, folder.name)
    finally:
        os.close(lock)


def _clear(folder: Path, to: Path) -> None:
    """Remove a folder that was worked in; what stood at `to` comes back if nothing has taken its place."""
    old = folder / _OLD
    if old.exists() and not to.exists():
        old.rename(to)
        _LOG.warning("%s: it had been moved aside and not been replaced, and is put back", to)
    shutil.rmtree(folder, ignore_errors=True)


def _made(to: Path) -> tuple[Path, int | None]:
    """A new folder, and the descriptor that keeps it locked; None where the file system has no locks, and so nobody removes it. Raises OSError."""
    for left in range(_TRIES, 0, -1):
        folder = Path(tempfile.mkdtemp(prefix=_prefix(to), dir=to.parent))
        try:
            return folder, _locked(folder)
        except FileNotFoundError:  # somebody took it for a leftover before it had its lock
            if left == 1:
                raise
    raise AssertionError("unreachable")


def _locked(folder: Path) -> int | None:
    """Lock a new folder. Raises FileNotFoundError where somebody has removed it."""
    path = folder / _LOCK
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if files.try_lock(lock) and os.path.samestat(os.fstat(lock), path.stat()):
            return lock
    except FileNotFoundError:
        os.close(lock)
        raise
    except OSError:  # no locks here
        os.close(lock)
        path.rename(folder / "unlocked")
        return None
    os.close(lock)
    raise FileNotFoundError(f"{folder} is gone")


def _replace(work: Path, to: Path, taken: bool) -> None:
    """Put what is new in the place of `to`; that stays where this fails."""
    if taken:
        to.rename(work / _OLD)
    (work / _NEW).rename(to)


def _prefix(to: Path) -> str:
    """What begins the names of the folders for one place, whose own name may be as long as names can be."""
    return f"{_PART}{hashlib.sha256(os.fsencode(to.name)).hexdigest()[:12]}-"


@contextlib.contextmanager
def _told(to: Path, name: str, what: str) -> Iterator[None]:
    """Tell an error of the file system as one of the argument `name`."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # the latter is pathlib's for a link that leads to itself
        raise ValueError(
            f"{name}: {to} {what} ({getattr(error, 'strerror', None) or brief(error)}). It must be a folder, or be free for one, that can be renamed: choose another "
            "(inside a mounted volume, for example, not the volume itself), beside which files may be made"
        ) from error
