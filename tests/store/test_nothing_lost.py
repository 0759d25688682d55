"""What was acknowledged stays: second writers, flipped bits, foreign files, damaged snapshots, and readers beside a failing writer."""

from __future__ import annotations

import os
import shutil
import sqlite3
import warnings

import pytest

from memoir_fast.errors import Damaged, EditError
from memoir_fast.journal.record import PREFIX, read_entry
from memoir_fast.store import Store, StoreError, export_bundle, import_bundle
from memoir_fast.store.log import segments
from tests.support.forging import without_ledger
from tests.support.patience import within
from tests.support.stores import add, contents, new_store


def made(folder, edits: int = 6):
    """A store with a few edits, closed; returns what it held."""
    with new_store(folder) as store:
        for number in range(edits):
            add(store, number)
        return contents(store)


def live(folder):
    return segments(folder)[-1][1]


def records(path):
    data, offset, found = path.read_bytes(), 0, []
    while offset < len(data):
        found.append(read_entry(data[offset:], len(data) - offset, path, offset))
        offset += found[-1].length
    return found


def flip(path, byte: int, bit: int = 0):
    raw = bytearray(path.read_bytes())
    raw[byte] ^= 1 << bit
    path.write_bytes(raw)


# ---- second writers ----------------------------------------------------------------------------------------------


def test_a_writer_whose_lock_was_deleted_notices_the_second_one(tmp_path):
    store = new_store(tmp_path / "s")
    add(store, 0)
    (tmp_path / "s" / "lock").unlink()
    second = Store(tmp_path / "s", writer=True)
    assert add(second, 1) == 1
    for change in (lambda: add(store, 2), lambda: store.delete(0), store.compact):
        with pytest.raises(StoreError, match=r"changed or replaced by another process|open the store again"):
            change()
    assert add(second, 3) == 2
    store.close(), second.close()
    with Store(tmp_path / "s", writer=True) as again:
        assert [again.edits[i]["prompt"] for i in range(3)] == ["p0", "p1", "p3"] and again.verify()["problems"] == []


def test_a_writer_whose_folder_was_replaced_acknowledges_nothing(tmp_path):
    store = new_store(tmp_path / "s")
    add(store, 0)
    shutil.copytree(tmp_path / "s", tmp_path / "copy")
    shutil.rmtree(tmp_path / "s")
    shutil.move(tmp_path / "copy", tmp_path / "s")
    with pytest.raises(StoreError, match="changed or replaced"):
        add(store, 1)
    store.close()


# ---- flipped bits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", [True, False], ids=["writer", "reader"])
@pytest.mark.parametrize("ledger", ["none", "stale"])
def test_a_flipped_length_is_no_unfinished_end(tmp_path, writer, ledger):
    kept = made(tmp_path / "s")
    if ledger == "stale":  # of a copy that was made after the second edit
        shutil.rmtree(tmp_path / "s")
        with new_store(tmp_path / "s") as store:
            add(store, 0), add(store, 1)
            store._ledger._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            shutil.copy(tmp_path / "s" / "ledger.sqlite", tmp_path / "old")
            for number in range(2, 6):
                add(store, number)
    path = live(tmp_path / "s")
    starts, size = [entry.offset for entry in records(path)], path.stat().st_size
    for record in (1, 2, 4, 5):  # the last one too
        for byte in range(4, 16):
            folder = tmp_path / "damaged"
            shutil.copytree(tmp_path / "s", folder)
            without_ledger(folder)
            if ledger == "stale":
                shutil.copy(tmp_path / "old", folder / "ledger.sqlite")
            flip(folder / path.name, starts[record] + byte, record % 8)
            with pytest.raises(Damaged, match=rf"record {record + 1}|byte {starts[record]}"):
                Store(folder, writer=writer)
            assert (folder / path.name).stat().st_size == size  # nothing was cut
            shutil.rmtree(folder)
    with Store(tmp_path / "s", writer=writer) as store:
        assert contents(store) == kept


def test_an_unfinished_end_is_set_aside_by_the_writer_and_told_by_readers(tmp_path):
    made(tmp_path / "s")
    path = live(tmp_path / "s")
    last = records(path)[-1]
    without_ledger(tmp_path / "s")
    for cut in (last.offset + 3, last.offset + PREFIX, last.offset + PREFIX + 40, last.offset + last.length - 1):
        folder = tmp_path / "cut"
        shutil.copytree(tmp_path / "s", folder)
        os.truncate(folder / path.name, cut)
        tail = (folder / path.name).read_bytes()[last.offset :]
        with Store(folder) as reader:
            assert len(reader.edits) == 5 and "ends within record 6" in reader.report[0]
        with Store(folder, writer=True) as store:
            assert len(store.edits) == 5 and "cut off" in store.report[0]
            assert (folder / "unfinished-000000000006.bin").read_bytes() == tail
            assert add(store, 9) == 5 and store.verify()["problems"] == []
        shutil.rmtree(folder)


def test_a_sparse_tail_is_told_quickly(tmp_path):
    made(tmp_path / "s")
    without_ledger(tmp_path / "s")
    os.truncate(live(tmp_path / "s"), 40 << 30)
    with pytest.raises(Damaged, match="does not begin as one"):
        Store(tmp_path / "s", writer=True)
    assert live(tmp_path / "s").stat().st_size == 40 << 30


def test_a_sparse_tail_behind_what_a_ledger_knows_is_set_aside_without_its_hole(tmp_path):
    kept = made(tmp_path / "s")
    path = live(tmp_path / "s")
    end = path.stat().st_size
    with open(path, "ab") as file:
        file.write(b"MFR1 unfinished")
    os.truncate(path, 40 << 30)
    with within(), Store(tmp_path / "s", writer=True) as store:
        assert contents(store) == kept and "cut off" in store.report[0]
    aside = (tmp_path / "s" / "unfinished-000000000007.bin").read_bytes()
    assert aside.startswith(b"MFR1 unfinished") and len(aside) < 1 << 16 and path.stat().st_size == end


# ---- records that are not this store's ---------------------------------------------------------------------------


@pytest.mark.parametrize("writer", [True, False], ids=["writer", "reader"])
def test_a_segment_of_another_store_is_refused(tmp_path, writer):
    for name in ("s", "other"):
        with new_store(tmp_path / name) as store:
            for number in range(4):
                add(store, number + 10 * (name == "other"))
                if number == 1:
                    store.compact()
        without_ledger(tmp_path / name)
    for first in (1, 3):
        folder = tmp_path / "mixed"
        shutil.copytree(tmp_path / "s", folder)
        shutil.copy(tmp_path / "other" / f"log-{first:012d}.bin", folder)
        with pytest.raises(Damaged, match="is of another store"):
            Store(folder, writer=writer)
        shutil.rmtree(folder)


@pytest.mark.parametrize("writer", [True, False], ids=["writer", "reader"])
def test_a_record_of_another_history_of_the_same_store_is_refused(tmp_path, writer):
    """Two copies of one store that went on apart: the end of one behind the beginning of the other."""
    with new_store(tmp_path / "s") as store:
        add(store, 0), add(store, 1)
    shutil.copytree(tmp_path / "s", tmp_path / "twin")
    for name, number in (("s", 2), ("twin", 7)):
        with Store(tmp_path / name, writer=True) as store:
            add(store, number), store.compact(), add(store, number + 1)
        without_ledger(tmp_path / name)
    shutil.copy(live(tmp_path / "twin"), tmp_path / "s")
    with pytest.raises(Damaged, match="not written behind record 3"):
        Store(tmp_path / "s", writer=writer)


def test_a_ledger_of_another_store_is_set_aside(tmp_path):
    kept = made(tmp_path / "s", 2)
    made(tmp_path / "other", 5)
    for name in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        (tmp_path / "s" / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "other" / "ledger.sqlite", tmp_path / "s")
    with Store(tmp_path / "s") as reader:
        assert contents(reader) == kept
    with Store(tmp_path / "s", writer=True) as store:
        assert contents(store) == kept and "ledger.sqlite is of another store" in store.report[0]
        assert len(store.ledger_rows()) == 2


def test_a_newer_ledger_is_refused_with_the_remedy(tmp_path):
    made(tmp_path / "s", 2)
    shutil.copytree(tmp_path / "s", tmp_path / "old")
    with Store(tmp_path / "s", writer=True) as store:
        add(store, 2)
    shutil.copy(tmp_path / "s" / "ledger.sqlite", tmp_path / "old")
    for writer in (True, False):
        with pytest.raises(Damaged, match=r"ledger.sqlite came from elsewhere or from a newer copy, move it away"):
            Store(tmp_path / "old", writer=writer)
    without_ledger(tmp_path / "old")
    with Store(tmp_path / "old", writer=True) as store:
        assert len(store.edits) == 2


# ---- readers -----------------------------------------------------------------------------------------------------


def test_a_reader_gives_up_a_record_that_its_writer_took_back(tmp_path, monkeypatch):
    store = new_store(tmp_path / "s")
    add(store, 0)
    reader, put = Store(tmp_path / "s"), store._ledger.put

    def full(*args, everything=False):
        if not everything:
            reader.refresh()  # between the log and the ledger
        raise sqlite3.OperationalError("disk is full")

    monkeypatch.setattr(store._ledger, "put", full)
    with pytest.raises(StoreError):
        add(store, 1)
    assert len(reader.edits) == 2  # the phantom
    monkeypatch.setattr(store._ledger, "put", put)
    reader.refresh()
    assert contents(reader) == contents(store)
    monkeypatch.setattr(store._ledger, "put", full)
    with pytest.raises(StoreError):
        add(store, 1)
    monkeypatch.setattr(store._ledger, "put", put)
    add(store, 5), add(store, 6)  # another record at the same place, and one behind it
    reader.refresh()
    assert contents(reader) == contents(store) and reader.edits[1]["prompt"] == "p5"
    assert (reader.memory.V - store.memory.V).abs().max() < 1e-5
    store.close()


def test_an_open_reader_follows_through_compactions_and_forgetting(tmp_path):
    with new_store(tmp_path / "s") as store:
        reader = Store(tmp_path / "s")
        for number in range(6):
            add(store, number)
            if number % 2:
                store.compact(forget_before=number)
            reader.refresh()
            assert contents(reader) == contents(store), number
            assert reader.refresh() == 0


def test_a_failing_refresh_leaves_the_reader_as_it_was(tmp_path):
    with new_store(tmp_path / "s") as store:
        add(store, 0)
        reader = Store(tmp_path / "s")
        kept, V = contents(reader), reader.memory.V.clone()
        add(store, 1), store.compact(forget_before=2)
    for path in (tmp_path / "s").glob("snapshot-*"):
        flip(path, -1)
    with pytest.raises(ValueError, match="checksum"):
        reader.refresh()
    assert contents(reader) == kept and bool((reader.memory.V == V).all())


def test_a_reader_refuses_another_store_at_its_place(tmp_path):
    made(tmp_path / "s")
    reader = Store(tmp_path / "s")
    shutil.rmtree(tmp_path / "s")
    other = new_store(tmp_path / "s")
    other.close()
    reader.refresh()  # of the same model and permutation: a store that was put back from a copy looks the same
    assert reader.edits == {}
    reader.manifest.fingerprint["out_features"] = 9
    (tmp_path / "s" / "log-000000000001.bin").unlink(missing_ok=True)
    with Store(tmp_path / "s", writer=True) as store:
        add(store, 0)
    reader._history._last = (records(live(tmp_path / "s"))[0], None)
    reader._history._last[0].header["was"] = "x"
    object.__setattr__(reader._history._last[0], "link", "y")
    with pytest.raises(StoreError, match="holds another store now"):
        reader.refresh()


# ---- giving up, and what is too large ----------------------------------------------------------------------------


def test_one_damaged_snapshot_is_not_the_end_of_a_store_that_gave_updates_up(tmp_path):
    with new_store(tmp_path / "s") as store:
        for number in range(4):
            add(store, number)
        store.compact(forget_before=3)
        kept = contents(store)
        V = store.memory.V.clone()
    for again in range(3):
        names = sorted(path.name for path in (tmp_path / "s").glob("snapshot-*"))
        assert len(names) == 2
        for name in names:
            folder = tmp_path / "damaged"
            shutil.copytree(tmp_path / "s", folder)
            flip(folder / name, -1)
            for writer in (False, True):
                with Store(folder, writer=writer) as store:
                    assert contents(store) == kept and bool((store.memory.V == V).all())
            shutil.rmtree(folder)
        with Store(tmp_path / "s", writer=True) as store:
            if again:
                add(store, 10 + again)
            store.compact()
            kept, V = contents(store), store.memory.V.clone()
    for path in (tmp_path / "s").glob("snapshot-*"):
        flip(path, -1)
    with pytest.raises(Damaged, match=r"snapshot-.*checksum.*given up.*put a snapshot back from a copy"):
        Store(tmp_path / "s")


def test_a_bundle_of_a_store_that_gave_updates_up_opens(tmp_path):
    with new_store(tmp_path / "s") as store:
        add(store, 0), add(store, 1), store.compact(forget_before=2)
        kept = contents(store)
        export_bundle(store, tmp_path / "b.mfb")
    with import_bundle(tmp_path / "b.mfb", tmp_path / "again") as store:
        assert contents(store) == kept
        assert add(store, 5) == 2
        store.compact()
    with Store(tmp_path / "again", writer=True) as store:
        assert len(store.edits) == 3 and store.verify()["problems"] == []


@pytest.mark.parametrize("about", [{"metadata": {"text": "x" * (65 << 20)}}, {"author": "x" * (65 << 20)}, {"tags": ["x" * (65 << 20)]},
                                   {"loss": float("nan")}, {"loss": float("inf")}])  # fmt: skip
def test_what_could_not_be_read_again_is_not_written(tmp_path, about):
    with new_store(tmp_path / "s") as store:
        add(store, 0)
        with pytest.raises((ValueError, EditError)):
            add(store, 1, **about)
        assert add(store, 2) == 1
        kept = contents(store)
    with Store(tmp_path / "s", writer=True) as store:
        assert contents(store) == kept and store.report == []


def test_tags_that_are_too_large_are_not_written(tmp_path):
    with new_store(tmp_path / "s") as store:
        add(store, 0)
        with pytest.raises(ValueError, match="nothing was changed"):
            store.tag(0, ["x" * (65 << 20)])
    with Store(tmp_path / "s") as store:
        assert store.state.tags[0] == ["x"]


def test_a_damaged_archive_does_not_make_later_edits_fail(tmp_path):
    with new_store(tmp_path / "s") as store:
        for number in range(3):
            add(store, number)
        store.delete(1)
        store.compact()
    flip(segments(tmp_path / "s")[0][1], records(segments(tmp_path / "s")[0][1])[0].length - 1)  # edit 0's update
    with Store(tmp_path / "s", writer=True, compact_bytes=1) as store:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in range(3, 6):
                assert add(store, number) == number
            store.delete(4)
        assert any("cannot be taken back" in line for line in store.report)
    with Store(tmp_path / "s", writer=True) as store:
        assert len(store.edits) == 4
