"""What happens to a store's files: processes killed, disks that fill up or fail, bytes that change, and months of use."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memoir_fast.base import files
from memoir_fast.store import Store, StoreError, log
from memoir_fast.store.log import segments
from tests.support.models import tiny_memoir
from tests.support.stores import add, contents, new_store

# ---- crashes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kills", [40, pytest.param(200, marks=pytest.mark.long)])
def test_crash_kill_minus_nine_at_random_points(tmp_path, kills):
    """With a model; `test_kills.py` has more kinds of changes without one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "tests.support.crash_driver", str(tmp_path), str(kills)], capture_output=True, text=True,
                          env=environment, timeout=900, cwd=Path(__file__).parents[2])  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout)
    assert seen["kills"] == kills and seen["acknowledged"] > kills


def test_a_forked_process_cannot_write_and_leaves_the_lock_alone(tmp_path):
    """The child is told to open the store again; its closing takes neither the lock nor anything else from the parent."""
    store = new_store(tmp_path / "s")
    add(store, 0)
    child = os.fork()
    if child == 0:
        try:
            with pytest.raises(StoreError, match="opened by another process"):
                add(store, 1)
            store.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with pytest.raises(StoreError, match="another process is writing"):
        Store(tmp_path / "s", writer=True)
    assert add(store, 1) == 1
    store.close()
    with Store(tmp_path / "s", writer=True) as again:
        assert again.verify()["problems"] == [] and list(again.edits) == [0, 1]


# ---- injected failures -------------------------------------------------------------------------------------------


class FaultyOS:
    """The os module, whose n-th write, flush, rename or truncation fails, or whose writes are short."""

    CALLS = ("write", "fsync", "replace", "ftruncate")

    def __init__(self, at: int, kind: str):
        self.at, self.kind, self.count = at, kind, 0

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in self.CALLS:
            return real

        def call(*args):
            self.count += 1
            hit = self.count == self.at
            if self.kind.startswith("short"):
                cut = name == "write" and (hit or self.kind == "short writes")
                return real(args[0], args[1][: max(1, len(args[1]) // 3)]) if cut else real(*args)
            if hit or (self.kind == "ENOSPC and stays full" and self.count > self.at and name == "write"):
                code = errno.EIO if self.kind == "EIO" else errno.ENOSPC
                if name == "write":  # a part of it may well have reached the disk
                    real(args[0], args[1][: len(args[1]) // 2])
                raise OSError(code, os.strerror(code))
            return real(*args)

        return call


def scenario(store: Store, acknowledged: list) -> None:
    """Changes of every kind; after each that counts as made, what the store then holds."""
    for change in (
        lambda: add(store, 10), lambda: store.delete(0), lambda: store.tag(1, ["y"]), lambda: store.compact(),
        lambda: add(store, 11), lambda: store.restore(0), lambda: add(store, 12),
    ):  # fmt: skip
        change()
        acknowledged.append(contents(store))


@pytest.mark.parametrize("kind", ["EIO", "ENOSPC", "ENOSPC and stays full", "short write", "short writes"])
def test_fault_injected_into_every_write(tmp_path, monkeypatch, kind):
    with new_store(tmp_path / "fresh") as store:
        for number in range(3):
            add(store, number)
        begun = contents(store)
    counter = FaultyOS(-1, "EIO")
    for at in range(0, 200):
        folder = tmp_path / f"s{at}"
        shutil.copytree(tmp_path / "fresh", folder)
        store, acknowledged = Store(folder, writer=True), [begun]
        faulty = counter if at == 0 else FaultyOS(at, kind)
        monkeypatch.setattr(files, "os", faulty)
        monkeypatch.setattr(log, "os", faulty)
        try:
            scenario(store, acknowledged)
        except StoreError as error:
            assert at > 0 and not kind.startswith("short") and "failed" in str(error)
        else:  # nothing failed, or the writes were only short
            assert at == 0 or kind.startswith("short") or faulty.count < at
            assert len(acknowledged) == 8
        monkeypatch.undo()
        assert contents(store) == acknowledged[-1]
        broken = store._log.broken
        if not broken:
            add(store, 99)  # the disk works again
            acknowledged.append(contents(store))
        store.close()
        with Store(folder, writer=True) as again:
            # What failed and could not be taken back may be there whole, but nothing acknowledged is missing.
            found, last = contents(again), acknowledged[-1]
            assert found == last or (broken and last[2].items() <= found[2].items()), at
            assert again.verify()["problems"] == []
            add(again, 100)
        shutil.rmtree(folder)
        if at > counter.count:
            break
    assert counter.count > 20


def test_fault_of_the_ledger_takes_the_edit_back(tmp_path, monkeypatch):
    import sqlite3

    store = new_store(tmp_path / "s")
    add(store, 0)
    before, V = contents(store), store.memory.V.clone()

    def full(*args, **kwargs):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store._ledger, "put", full)
    with pytest.raises(StoreError, match="disk is full"):
        add(store, 1)
    assert contents(store) == before and torch.allclose(store.memory.V, V, atol=1e-6)
    monkeypatch.undo()
    assert add(store, 2) == 1
    store.close()
    with Store(tmp_path / "s", writer=True) as again:
        assert len(again.edits) == 2 and again.verify()["problems"] == [] and again.report == []


def test_fault_of_a_batched_flush_is_told(tmp_path, monkeypatch):
    new_store(tmp_path / "s").close()
    store = Store(tmp_path / "s", writer=True, durability="batch")
    monkeypatch.setattr(files, "os", FaultyOS(2, "EIO"))
    add(store, 0)  # one write, no flush
    with pytest.raises(StoreError, match="flushing failed"):
        store.flush()
    with pytest.raises(StoreError, match="open the store again"):
        add(store, 1)
    monkeypatch.undo()
    store.close()


def test_fault_power_loss_with_batched_durability_loses_only_what_was_not_flushed(tmp_path):
    new_store(tmp_path / "s").close()
    store = Store(tmp_path / "s", writer=True, durability="batch")
    add(store, 0), store.flush()
    kept, size = contents(store), segments(tmp_path / "s")[-1][1].stat().st_size
    add(store, 1), add(store, 2)
    shutil.copytree(tmp_path / "s", tmp_path / "after")  # the ledger reached the disk, the log's end did not
    os.truncate(segments(tmp_path / "after")[-1][1], size + 50)
    with Store(tmp_path / "after", writer=True) as again:
        assert contents(again) == kept and any("cut off" in line for line in again.report)
        assert again.verify()["problems"] == []
    store.close()
    with Store(tmp_path / "s", writer=True) as again:
        assert len(again.edits) == 3 and again.report == []


# ---- corruption --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A store with an archive, two snapshots and a live log; and what it holds."""
    folder = tmp_path_factory.mktemp("sound") / "s"
    with new_store(folder) as store:
        for number in range(6):
            add(store, number)
            if number in (1, 3):
                store.compact()
        store.delete(2)
        store.restore(2)
        store.disable(4)
        kept, V, C = contents(store), store.memory.V.clone(), store.memory.C.clone()
    return folder, kept, V, C


def damaged_opens_rightly(sound, folder, writer: bool) -> str:
    """Open a damaged store: it must be refused, or hold what it held."""
    _, kept, V, C = sound
    try:
        store = Store(folder, writer=writer)
    except (ValueError, StoreError) as error:
        assert any(path in str(error) for path in (str(folder), "in_features")), error
        return "refused"
    with store:
        assert contents(store) == kept
        assert torch.allclose(store.memory.V, V, atol=1e-4) and torch.allclose(store.memory.C, C, atol=1e-3)
        if not writer:
            return "unharmed"
        report = store.verify()
        return "repaired" if report["repaired"] or report["problems"] else "unharmed"


def _files(folder):
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name not in ("lock", "writer.json"))


@pytest.mark.parametrize("writer", [True, False], ids=["writer", "reader"])
def test_corrupt_bytes_are_refused_or_repaired(sound, tmp_path, writer):
    seen: dict[str, int] = {}
    rng = np.random.default_rng(int(writer))
    cases = 0
    for path in _files(sound[0]):
        data = path.read_bytes()
        places = range(len(data)) if len(data) < 120 else sorted(rng.choice(len(data), 120, replace=False))
        for place in places:
            for change in ("flip", "truncate"):
                folder = tmp_path / "s"
                shutil.copytree(sound[0], folder)
                flipped = data[:place] + bytes([data[place] ^ (1 << int(rng.integers(8)))]) + data[place + 1 :]
                (folder / path.name).write_bytes(flipped if change == "flip" else data[:place])
                found = damaged_opens_rightly(sound, folder, writer)
                kind = path.name.split("-")[0]
                seen[f"{kind} {change} {found}"] = seen.get(f"{kind} {change} {found}", 0) + 1
                shutil.rmtree(folder)
                cases += 1
    assert cases > 1500, cases
    for kind in ("config.json", "base.safetensors"):
        assert seen[f"{kind} flip refused"] >= 120 and f"{kind} flip unharmed" not in seen, seen
    if writer:  # every flip in the log is noticed, the archive's by `verify`
        assert "log flip unharmed" not in seen and "log truncate unharmed" not in seen, seen
        assert "snapshot flip unharmed" not in seen, seen


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_corrupt_stretches_and_mixed_up_files(sound, tmp_path_factory, data):
    """Zeros, other files' bytes, repeated and missing stretches, whole files exchanged or gone."""
    folder = tmp_path_factory.mktemp("damaged") / "s"
    shutil.copytree(sound[0], folder)
    paths = _files(folder)
    path, other = data.draw(st.permutations(paths))[:2]
    raw = path.read_bytes()
    start = data.draw(st.integers(0, max(0, len(raw) - 1)))
    stop = min(len(raw), start + data.draw(st.integers(1, 4096)))
    kind = data.draw(st.sampled_from(["zero", "repeat", "drop", "insert", "exchange", "remove"]))
    if kind == "remove":
        path.unlink()
    elif kind == "exchange":
        shutil.copy(other, folder / "aside"), shutil.copy(path, other), shutil.move(folder / "aside", path)
    else:
        middle = {"zero": bytes(stop - start), "repeat": raw[start:stop] * 2, "drop": b"",
                  "insert": other.read_bytes()[:4096] + raw[start:stop]}[kind]  # fmt: skip
        path.write_bytes(raw[:start] + middle + raw[stop:])
    damaged_opens_rightly(sound, folder, data.draw(st.booleans()))
    shutil.rmtree(folder.parent)


def test_corrupt_record_in_use_is_named(sound, tmp_path):
    folder = tmp_path / "s"
    shutil.copytree(sound[0], folder)
    path = segments(folder)[0][1]
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1  # the body of edit 1, in the archive
    path.write_bytes(raw)
    with Store(folder, writer=True) as store:
        assert any("record 2" in line for line in store.verify()["problems"])
        with pytest.raises(ValueError, match=r"log-0+1\.bin: the body of record 2 .* fails its checksum"):
            store.delete(1)
        store.delete(0)


def test_corrupt_links_and_foreign_files_are_refused(sound, tmp_path):
    for name in [path.name for path in _files(sound[0])]:
        folder = tmp_path / "s"
        shutil.copytree(sound[0], folder)
        shutil.move(folder / name, tmp_path / "outside")
        os.symlink(tmp_path / "outside", folder / name)
        with pytest.raises(ValueError, match="symbolic link"), Store(folder, writer=True) as store:
            raise ValueError(str(store.verify()["problems"]))  # the snapshot before the newest is not read before
        shutil.rmtree(folder)
        (tmp_path / "outside").unlink()
    values = json.loads((sound[0] / "config.json").read_text())
    for change, says in (({"format_version": 9}, "format_version is 9"), ({"format": "other"}, "format is 'other'"),
                         ({"record_dtype": "float64"}, "checksum")):  # fmt: skip
        folder = tmp_path / "s"
        shutil.copytree(sound[0], folder)
        (folder / "config.json").write_text(json.dumps({**values, **change}))
        with pytest.raises(ValueError, match=says):
            Store(folder)
        shutil.rmtree(folder)


def test_texts_of_any_kind_are_kept(tmp_path):
    texts = [
        "a" * (1 << 20),
        "\x00\x1b[2J\r\n\u202e",
        "𝔘nicode ☃ 漢字",
        "half a pair \ud800",
        "'; DROP TABLE edits; --",
    ]
    with new_store(tmp_path / "s") as store:
        for number, text in enumerate(texts):
            add(store, number, text, prompt=text, author=text, tags=[text], metadata={text: [text]})
    with Store(tmp_path / "s", writer=True) as again:
        assert again.report == [] and [again.edits[i]["prompt"] for i in range(5)] == texts
        assert again.edits[1]["metadata"] == {texts[1]: [texts[1]]} and again.verify()["problems"] == []
        assert [row["prompt"] for row in again.ledger_rows()][:3] == texts[:3]


# ---- months of use -----------------------------------------------------------------------------------------------


def test_soak_memory_descriptors_and_log_stay_flat(tmp_path):
    process = psutil.Process()
    model = tiny_memoir(write="preconditioned", steps=1)
    model.create_store(tmp_path / "s", conflict="keep", compact_bytes=1 << 21)
    reader, seen, largest = Store(tmp_path / "s"), [], 0
    for number in range(2000):
        model.edit(f"w{100 + number % 79} w{100 + number % 71} w{100 + number % 47}", f"w{150 + number % 29}")
        if number % 4 == 3:
            model.delete(number - 2)
        largest = max(largest, segments(tmp_path / "s")[-1][1].stat().st_size)
        if number % 50 == 49:
            reader.refresh()
        if number % 200 == 199:
            seen.append((process.memory_info().rss, process.num_fds()))
    assert reader.state.statuses == model.store.state.statuses and len(model.memory) == 1500
    assert largest < (1 << 21) + (1 << 17) and len(segments(tmp_path / "s")) > 3
    assert seen[-1][1] <= seen[1][1]
    assert seen[-1][0] - seen[1][0] < 40 << 20, [
        rss >> 20 for rss, _ in seen
    ]  # records' headers stay in memory: 2 KB an edit
    model.close()
    assert Store(tmp_path / "s").state.statuses == reader.state.statuses
