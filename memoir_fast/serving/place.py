"""Folders that are replaced as a whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import brief

_PART = ".memoir-fast-export-"  # begins the names of unfinished and replaced folders


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
        taken = to.exists()
        if taken and any(to.iterdir()) and not ours(to):
            raise ValueError(f"{name}: {to} is not empty and {what}: choose another folder")
    with _told(to, name, "cannot be made"):
        to.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=_PART, dir=to.parent))
    try:
        new.chmod(0o777 & ~_umask())
        yield new
        with _told(to, name, "cannot be replaced"):
            if taken:
                _exchange(new, to)
            else:
                new.rename(to)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _exchange(new: Path, to: Path) -> None:
    """Put `new` in the place of the folder `to`; that stays where this fails."""
    old = Path(tempfile.mkdtemp(prefix=_PART, dir=to.parent))
    try:
        to.rename(old)  # onto an empty folder
        try:
            new.rename(to)
        except BaseException:
            old.rename(to)
            raise
    except BaseException:
        if to.exists():
            shutil.rmtree(old, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


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


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found
