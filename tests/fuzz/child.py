"""The process that reads: `python -m tests.fuzz.child SEEDS WORK`. Each line of its input is a JSON request, answered by lines of JSON.

It looks at itself while it reads: at what it opens, makes, removes and starts (an audit hook), at its memory, and at a folder that nobody may
touch. A watcher outside ends it where it hangs.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import formats, readers

SLOWEST = 25.0  # seconds of all that is done with an input; of each part see `readers.SLOWEST`
MOST_MEMORY = 256 << 20  # bytes beyond twice the input's size
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.truncate",
    "os.chmod",
    "os.link",
    "os.symlink",
    "os.chown",
    "shutil.rmtree",
}
_NEVER = {
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "socket.connect",
    "socket.bind",
    "ctypes.dlopen",
}


class Watch:
    """What happens to files and processes while `on`.

    Args:
        inside: the folder in which files may change; outside: one that may not even be read.

    Attributes:
        seen: what must not happen.
    """

    def __init__(self, inside: Path, outside: Path):
        self.inside, self.outside = os.path.realpath(inside), os.path.realpath(outside)
        self.on, self.reads, self.seen = False, False, list[str]()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, values: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in _NEVER:
            self.seen.append(f"{event} {str(values)[:200]}")
        elif event in _CHANGES:
            for value in values[:2]:
                if isinstance(value, (str, bytes, os.PathLike)) and not self._within(value, self.inside, last=False):
                    self.seen.append(f"{event} {os.fsdecode(value)}")
        elif event == "open" and isinstance(values[0], (str, bytes, os.PathLike)):
            mode, flags = values[1], values[2] or 0
            last = not flags & os.O_NOFOLLOW
            nameless = os.path.isdir(values[0])  # a temporary file that never has a name
            changes = not nameless and (
                bool(flags & _WRITES) or (isinstance(mode, str) and bool(set(mode) & set("wax+")))
            )
            if changes and not self._within(values[0], self.inside, last) and os.fsdecode(values[0]) != os.devnull:
                self.seen.append(f"open to write {os.fsdecode(values[0])}")
            elif self.reads and self._within(values[0], self.outside, last):
                self.seen.append(f"open {os.fsdecode(values[0])}")

    @staticmethod
    def _within(path: Any, folder: str, last: bool) -> bool:
        """Whether a path leads into a folder; last: a link at its end is followed."""
        text = os.path.abspath(os.fsdecode(path))
        found = (
            os.path.realpath(text)
            if last
            else os.path.join(os.path.realpath(os.path.dirname(text)), os.path.basename(text))
        )
        return found == folder or found.startswith(folder + os.sep)


def listing(folder: Path) -> list[tuple[str, bytes | str]]:
    """Names and contents of a folder."""
    return sorted(
        (str(path.relative_to(folder)), path.read_bytes() if path.is_file() else "folder") for path in folder.rglob("*")
    )


def size_of(folder: Path) -> int:
    """Bytes of the regular files in a folder, holes included."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _status(name: str) -> int:
    """A field of this process's memory, in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0]) << 10


def examine(read: Callable[[Path], None], case: Path, outside: Path, watch: Watch, named: bool) -> str:
    """Read one input; what was wrong, or an empty text."""
    before, size = listing(outside), size_of(case)
    watch.seen.clear()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    begun, memory = time.monotonic(), _status("VmRSS")
    watch.on, watch.reads, wrong = True, not named, ""
    try:
        read(case)
    except KeyboardInterrupt:
        raise
    except BaseException:
        wrong = traceback.format_exc()
    watch.on = False
    took, grown = time.monotonic() - begun, _status("VmHWM") - memory
    if wrong:
        return wrong
    if watch.seen:
        return f"touched what is not its own: {watch.seen[:5]}"
    if listing(outside) != before:
        return "changed the folder beside its own"
    if took > SLOWEST:
        return f"took {took:.1f} s"
    if grown > 2 * size + MOST_MEMORY:
        return f"took {grown >> 20} MiB of memory for {size} bytes"
    return ""


def main(seeds: Path, work: Path) -> None:
    """Answer requests: {"format", "seed"}, or {"format", "folder"} for one that lies there already."""
    inside, outside = work / "case", work / "outside"
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + (6 << 30),) * 2)
    tempfile.gettempdir()  # which tries the folder, once
    watch = Watch(inside, outside)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints, prints elsewhere
    for line in sys.stdin:
        request = json.loads(line)
        found = formats.FORMATS[request["format"]]
        readers.warm(found.read)
        if "seed" in request:
            shutil.rmtree(inside, ignore_errors=True)
            formats.damaged(request["format"], seeds, inside, outside, request["seed"])
        print(json.dumps({"begun": True}), file=answers, flush=True)
        random.seed(0)
        wrong = examine(found.read, inside, outside, watch, found.named)
        print(json.dumps({"wrong": wrong}), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
