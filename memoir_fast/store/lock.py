"""The lock that lets a store have only one writer."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from ..base import files
from ..base.json_text import parse
from ..errors import StoreError, quoted
from ..journal.journal import now

# Files that an interrupted writer of this library may have left.
_PART = re.compile(r"(config\.json|writer\.json|(base|snapshot|page|log|unfinished)[-.\w]*)\.part")


class WriterLock:
    """A lock held from its creation until `release`. The operating system frees it when the process ends, however it
    ends, so no lock is ever stale.

    Args:
        folder: the store's.

    Raises:
        StoreError: another process holds it; the message says which.
        ValueError: the lock file is not an empty regular file.
        OSError: a file could not be written.
    """

    def __init__(self, folder: Path):
        _check(folder / "lock")
        self._lock = FileLock(folder / "lock", timeout=0, thread_local=False)
        owner = folder / "writer.json"
        try:
            self._lock.acquire()
        except Timeout:
            raise StoreError(
                f"{folder}: another process is writing ({_described(owner)}). Open the store for reading, or wait for it to end"
            ) from None
        except OSError:
            _check(
                folder / "lock"
            )  # a link may have come after the first look; filelock follows none, and leaves it to us to say so
            raise
        try:
            values = {"user": _user(), "host": socket.gethostname(), "pid": os.getpid(), "since": now()}
            for leftover in folder.glob("*.part"):
                if _PART.fullmatch(leftover.name) and not leftover.is_dir():
                    leftover.unlink()
            files.replace(owner, json.dumps(values).encode())
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


def _check(path: Path) -> None:
    """Raise ValueError unless the lock is an empty regular file or missing: locking empties the file, so it must be
    ours."""
    if path.exists() or path.is_symlink():
        descriptor = files.open_regular(path, os.O_RDONLY)
        size = os.fstat(descriptor).st_size
        os.close(descriptor)
        if size:
            raise ValueError(f"{path}: is not empty, so it is not the lock of a store: move it away")


def _described(owner: Path) -> str:
    try:
        who = parse(files.read(owner, 1 << 16), str(owner))
        return "{} on {}, process {}, since {}".format(
            *(quoted(who[name]) for name in ("user", "host", "pid", "since"))
        )
    except (ValueError, KeyError, TypeError, OSError):
        return "unknown"


def _user() -> str:
    with contextlib.suppress(Exception):
        return getpass.getuser()
    return "unknown"
