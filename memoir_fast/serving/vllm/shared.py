"""What the processes of one server share: a folder with their counters, and the ids of the edits in use.

A server may have several front ends (`--api-server-count`) and engines. The tables themselves lie in the workers, so all front ends ask the same
ones; each process counts in a file of its own, and whoever is asked for the counters adds the files up. The process that starts the others makes the
folder, names it in the environment that they inherit, and removes it when it ends.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import json
import mmap
import multiprocessing
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...base import files

ENVIRONMENT = "MEMOIR_FAST_SHARED"
OUTCOMES = ("matched", "unmatched", "off", "refused")
_FIELDS = (*OUTCOMES, "edits", "generation", "seq")
_SIZE = 8 * len(_FIELDS)
_made: Path | None = None


def begin() -> None:
    """Make the folder, in the process that starts the server's others; these find it in their environment."""
    global _made
    if multiprocessing.parent_process() is not None or (_made is not None and _made.is_dir()):
        return
    _made = Path(tempfile.mkdtemp(prefix="memoir-"))
    os.environ[ENVIRONMENT] = str(_made)  # also over one that this process has inherited from another server's
    atexit.register(_remove, _made, os.getpid())


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked process inherits the call
        shutil.rmtree(folder, ignore_errors=True)


def folder() -> Path | None:
    """The server's folder; None in a process that no server started."""
    named = os.environ.get(ENVIRONMENT)
    return Path(named) if named and Path(named).is_dir() else None


def mapped(prefix: str, size: int) -> tuple[str, mmap.mmap] | None:
    """A new file of zeros in the server's folder, which other processes can read while this one writes: its name, and its bytes. None without a
    folder."""
    place = folder()
    if place is None:
        return None
    descriptor, name = tempfile.mkstemp(prefix=prefix, dir=place)
    try:
        os.truncate(descriptor, size)
        return os.path.basename(name), mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)


class Tally:
    """This process's numbers, where the others can read them.

    Args:
        kind: "front" or "worker".
    """

    def __init__(self, kind: str):
        place = folder()
        self._numbers: mmap.mmap | None = None
        if place is not None:
            with (place / f"{kind}-{os.getpid()}").open("w+b") as file:
                file.truncate(_SIZE)
                self._numbers = mmap.mmap(file.fileno(), _SIZE)

    def put(self, numbers: Mapping[str, int]) -> None:
        """Say some of `_FIELDS` anew."""
        if self._numbers is not None:
            for name in numbers.keys() & set(_FIELDS):
                struct.pack_into("=q", self._numbers, 8 * _FIELDS.index(name), numbers[name])


class Refusals:
    """Counts the requests that this process refuses."""

    def __init__(self) -> None:
        self.count = 0
        self._tally: Tally | None = None

    def add(self) -> None:
        """One more."""
        self._tally = self._tally or Tally("front")
        self.count += 1
        self._tally.put({"refused": self.count})


refused = Refusals()


def totals() -> dict[str, int]:
    """What all processes have counted; `edits`, `generation` and `seq` as the workers say."""
    found = dict.fromkeys(_FIELDS, 0)
    place = folder()
    for path in sorted(place.iterdir()) if place is not None else ():
        if path.name.startswith(("front-", "worker-")):
            raw = path.read_bytes()
            if len(raw) == _SIZE:
                for name, number in zip(_FIELDS, struct.unpack(f"={len(_FIELDS)}q", raw), strict=True):
                    found[name] = found[name] + number if name in OUTCOMES else max(found[name], number)
                if path.name.startswith("worker-"):
                    for name in ("edits", "seq"):  # which can become less
                        found[name] = struct.unpack_from("=q", raw, 8 * _FIELDS.index(name))[0]
    return found


# ---- which edits there are ---------------------------------------------------------------------------------------

# By the file that names them, or the store where there is none: the file's stamp, the ids.
_known: dict[str, tuple[tuple[int, int] | None, set[int] | None]] = {}


def _edits_file(store: str) -> Path | None:
    place = folder()
    return None if place is None else place / f"edits-{hashlib.sha256(store.encode()).hexdigest()[:16]}.json"


def set_edits(store: str, ids: set[int] | None, first: bool = False) -> None:
    """Say which edits a store's table holds, to all front ends; first: at the start, where the process that started this one has said it."""
    path = _edits_file(store)
    if first and path is not None and path.is_file() and multiprocessing.parent_process() is not None:
        return
    _known[str(path or store)] = (None, ids)
    if path is not None and ids is not None:
        files.replace(path, json.dumps(sorted(ids)).encode())


def edits(store: str) -> set[int] | None:
    """The ids that a store's table holds, None where not known."""
    path = _edits_file(store)
    stamp, ids = _known.get(str(path or store), (None, None))
    with contextlib.suppress(OSError):
        if path is not None and (now := _stamp(path)) != stamp:
            ids = set(json.loads(path.read_bytes()))
            _known[str(path)] = (now, ids)
    return ids


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino


@contextlib.contextmanager
def alone() -> Iterator[bool]:
    """Whether this process may refresh now: True for one process of the server at a time. It does not wait."""
    place = folder()
    if place is None:
        yield True
        return
    with (place / "refreshing").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True  # closing the file gives the lock back
