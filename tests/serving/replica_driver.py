"""A replica without vLLM: follows a service, and reads the copy again and again as vLLM's refresh does.

python -m tests.serving.replica_driver URL FOLDER OUT

Appends to OUT a JSON line {"seq", "digest", "by"} for each table that it came to serve: "told", after the follower said that there is something new,
and "any", at any moment between, as somebody who refreshes by hand.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from memoir_fast.serving.checks import check_tables
from memoir_fast.serving.following import Follower, Origin
from memoir_fast.serving.parent import ends_with
from memoir_fast.serving.section import section_of
from memoir_fast.serving.tables import tables_of
from memoir_fast.serving.vllm.served import Served
from memoir_fast.store import Store
from tests.serving.editing.support import KEYS


def digest_of(store: Store) -> str:
    """Of all that a server serves of a store."""
    found = hashlib.sha256()
    for name, tensor in sorted(tables_of(store).items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


class Replica:
    """Serves what the copy holds."""

    def __init__(self, folder: Path, out: Path):
        self.folder, self.served = folder, None
        self._out, self._lock = out.open("a"), threading.Lock()

    def read(self, by: str) -> None:
        """As a refresh does."""
        with Store(self.folder) as store:
            section, tables = section_of(store, self.folder), tables_of(store)
            line = {"seq": store.state.seq, "digest": digest_of(store), "by": by}
        check_tables(tables, section)
        if by == "told":
            self.served = self.served or Served(section)
            self.served.load(tables)
        with self._lock:
            self._out.write(json.dumps(line) + "\n")
            self._out.flush()


def main(url: str, folder: Path, out: Path) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    replica, ended = Replica(folder, out), threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            if (folder / "config.json").exists():
                try:
                    replica.read("any")
                except ValueError as error:  # the whole folder was exchanged meanwhile: vLLM says so and is asked again
                    logging.warning("not read: %s", error)

    def tell(_: int, anew: bool) -> None:
        replica.read("told")

    with Follower(Origin(url, KEYS["rita"]), folder, tell) as follower:

        def stop(*_: Any) -> None:
            follower.stop()

        signal.signal(signal.SIGTERM, stop)
        ends_with(os.getppid(), follower.stop)  # a test that is killed leaves no follower behind
        looking = threading.Thread(target=look)
        looking.start()
        follower.run()
        ended.set()
        looking.join()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
