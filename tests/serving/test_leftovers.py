"""What an export or a follower that is killed leaves beside its place: the next one there removes it, and never what one that lives works in."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from memoir_fast.base import files
from memoir_fast.serving import place
from memoir_fast.serving.following import Follower, Origin
from memoir_fast.store import Store
from tests.serving.editing.support import KEYS, listening, opened, service_of

_FILLS = """
import sys, time
from pathlib import Path
from memoir_fast.serving import place

with place.beside(Path(sys.argv[1]), lambda folder: True, "to", "nothing of ours") as new:
    (new / "part").write_text("unfinished")
    print("fills", flush=True)
    time.sleep(300)
"""
_EXCHANGES = """
import os, signal, sys
from pathlib import Path
from memoir_fast.serving import place

rename = Path.rename
def killed_behind(self, target):
    rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
Path.rename = killed_behind
with place.beside(Path(sys.argv[1]), lambda folder: True, "to", "nothing of ours") as new:
    (new / "part").write_text("newer")
"""


@contextlib.contextmanager
def filling(to: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that fills a folder for `to` and does not come to its end."""
    process = subprocess.Popen([sys.executable, "-c", _FILLS, str(to)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "fills\n"
        yield process
    finally:
        process.kill()
        process.wait()


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".memoir-fast-")]


def put(to: Path, text: str) -> None:
    with place.beside(to, lambda folder: True, "to", "nothing of ours") as new:
        (new / "part").write_text(text)


def test_what_a_killed_process_left_is_removed_by_the_next_one_at_its_place_only(tmp_path):
    with filling(tmp_path / "to") as one, filling(tmp_path / "another") as other:
        for process in (one, other):
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert len(leftovers(tmp_path)) == 2
    put(tmp_path / "to", "whole")
    assert (tmp_path / "to" / "part").read_text() == "whole"
    assert len(leftovers(tmp_path)) == 1
    put(tmp_path / "another", "whole")
    assert leftovers(tmp_path) == []


def test_what_a_living_process_works_in_stays(tmp_path):
    with filling(tmp_path / "to"), filling(tmp_path / "to"):
        put(tmp_path / "to", "whole")
        place.tidy(tmp_path / "to")
        assert len(leftovers(tmp_path)) == 2
        assert [path.read_text() for path in tmp_path.glob(".memoir-fast-*/new/part")] == ["unfinished"] * 2
    place.tidy(tmp_path / "to")
    assert leftovers(tmp_path) == [] and (tmp_path / "to" / "part").read_text() == "whole"


def test_many_at_one_place_take_nothing_from_each_other(tmp_path):
    """Threads as well as processes: each has a lock of its own, and one that was just made is not taken for a leftover."""
    failed: list[BaseException] = []

    def again(name: str) -> None:
        try:
            for number in range(40):
                with place.working(tmp_path / "to") as folder:
                    (folder / "mine").write_text(f"{name} {number}")
                    place.tidy(tmp_path / "to")
                    assert (folder / "mine").read_text() == f"{name} {number}"
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=again, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and leftovers(tmp_path) == []


def test_a_folder_that_was_moved_aside_and_not_replaced_is_put_back(tmp_path):
    put(tmp_path / "to", "earlier")
    killed = subprocess.run([sys.executable, "-c", _EXCHANGES, str(tmp_path / "to")])
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "to").exists()
    place.tidy(tmp_path / "to")
    assert (tmp_path / "to" / "part").read_text() == "earlier" and leftovers(tmp_path) == []


def test_what_is_not_this_librarys_stays(tmp_path):
    """A link, a file, and a folder without a lock that holds something, all under the names of leftovers."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "lock").touch()
    with filling(tmp_path / "to"):
        prefix = leftovers(tmp_path)[0].rsplit("-", 1)[0]
    (tmp_path / f"{prefix}-link").symlink_to(tmp_path / "kept")
    (tmp_path / f"{prefix}-file").write_text("mine")
    (tmp_path / f"{prefix}-foreign").mkdir()
    (tmp_path / f"{prefix}-foreign" / "file").write_text("mine")
    (tmp_path / f"{prefix}-linked").mkdir()
    (tmp_path / f"{prefix}-linked" / "lock").symlink_to(tmp_path / "kept" / "lock")
    (tmp_path / f"{prefix}-empty").mkdir()  # of a process that was killed before it could make the lock
    put(tmp_path / "to", "whole")
    assert sorted(leftovers(tmp_path)) == sorted(f"{prefix}-{one}" for one in ("link", "file", "foreign", "linked"))
    assert (tmp_path / "kept" / "lock").exists() and (tmp_path / f"{prefix}-foreign" / "file").read_text() == "mine"


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    """As on a file system that has none: whether a leftover's process lives cannot be known there."""
    with filling(tmp_path / "to") as process:
        process.kill()

    def none(*_: object) -> bool:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(files, "try_lock", none)
    put(tmp_path / "to", "whole")
    assert len(leftovers(tmp_path)) == 1 and (tmp_path / "to" / "part").read_text() == "whole"


@contextlib.contextmanager
def stalling(port: int, path: bytes) -> Iterator[tuple[str, threading.Event]]:
    """The address of something that passes requests on to a server, but for those of one path, which it never answers; and whether one has come."""
    listens, stalled, held = socket.create_server(("127.0.0.1", 0)), threading.Event(), []

    def one(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            asked = client.recv(65536)
            if path in asked.split(b"\r\n")[0]:
                held.append(client)
                stalled.set()
                return
            with client, socket.create_connection(("127.0.0.1", port)) as server:
                server.sendall(asked)
                while data := server.recv(65536):
                    client.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listens.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listens.getsockname()[1]}", stalled
    finally:
        listens.close()
        for client in held:
            client.close()


@pytest.mark.parametrize("path", [b"/memoir/store/tensors", b"/memoir/store/records"])
def test_a_follower_that_is_killed_while_it_copies_leaves_nothing_for_long(tmp_path, path):
    model = opened(tmp_path)
    model.edit("w100 w101 w102", "w150")
    model.close()
    copies = tmp_path / "copies"
    copies.mkdir()
    with listening(service_of(tmp_path, opened(tmp_path))) as url:
        with stalling(int(url.rsplit(":", 1)[1]), path) as (slow, stalled):
            command = [
                sys.executable,
                "-m",
                "memoir_fast.cli",
                "follow",
                "--url",
                slow,
                "--store",
                str(copies / "copy"),
            ]
            process = subprocess.Popen(command, env={**os.environ, "MEMOIR_FAST_FOLLOW_KEY": KEYS["rita"]})
            try:
                assert stalled.wait(60)
                worked_in = leftovers(copies)
                with Follower(Origin(slow, KEYS["rita"]), copies / "copy"):  # a second one, which has not copied yet
                    assert worked_in and leftovers(copies) == worked_in
            finally:
                process.kill()
                process.wait()
        assert leftovers(copies)
        with Follower(Origin(url, KEYS["rita"]), copies / "copy") as follower:
            assert leftovers(copies) == []
            follower.catch_up()
    assert [path.name for path in copies.iterdir()] == ["copy"]
    with Store(copies / "copy") as copy:
        assert copy.state.seq == 1


def test_a_follower_goes_on_from_a_copy_that_was_moved_aside(tmp_path):
    """Without the service there would be nothing to serve otherwise."""
    with (
        listening(service_of(tmp_path, opened(tmp_path))) as url,
        Follower(Origin(url, KEYS["rita"]), tmp_path / "copy") as follower,
    ):
        follower.catch_up()
    killed = subprocess.run([sys.executable, "-c", _EXCHANGES, str(tmp_path / "copy")])
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "copy").exists()
    with Follower(Origin("http://127.0.0.1:9", KEYS["rita"]), tmp_path / "copy") as follower:
        assert follower.seq == 0 and leftovers(tmp_path) == []
