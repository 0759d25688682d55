"""The lock that makes a store's writer the only one."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from ..base import files
from ..errors import StoreError
from ..journal.journal import now


class WriterLock:
    """Held from making it to `release`. The operating system drops it with its process, however that ends: no lock is ever stale.

    Raises:
        StoreError: another process holds it; the message says whose.
    """

    def __init__(self, folder: Path):
        self._lock = FileLock(folder / "lock", timeout=0, thread_local=False)
        owner = folder / "writer.json"
        try:
            self._lock.acquire()
        except Timeout:
            raise StoreError(
                f"{folder}: another process is writing ({_described(owner)}). Open the store for reading, or wait for it to end"
            ) from None
        try:
            values = {"user": _user(), "host": socket.gethostname(), "pid": os.getpid(), "since": now()}
            for leftover in folder.glob("*.part"):
                leftover.unlink()
            files.replace(owner, json.dumps(values).encode())
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()


def _described(owner: Path) -> str:
    try:
        who = json.loads(files.read(owner))
        return f"{who['user']} on {who['host']}, process {who['pid']}, since {who['since']}"
    except (ValueError, KeyError, TypeError, OSError):
        return "unknown"


def _user() -> str:
    with contextlib.suppress(Exception):
        return getpass.getuser()
    return "unknown"
