"""A change of several records is there whole or not at all, wherever its writing was interrupted."""

from __future__ import annotations

import os
import shutil

import pytest

from memoir_fast.errors import Damaged
from memoir_fast.store import Store, replica
from memoir_fast.store.catalog import Catalog
from tests.store.test_nothing_lost import flip, live, made, records
from tests.support.forging import without_ledger
from tests.support.stores import add, contents, fact_of


def batch(store: Store) -> None:
    """Three edits in one change."""
    pairs = [fact_of(store, number) for number in (20, 21, 22)]
    store.add([fact for fact, _ in pairs], [update for _, update in pairs])


@pytest.fixture
def interrupted(tmp_path):
    """Makes a copy of a store whose last change, of three records, is cut at a byte of its segment, and which has no ledger."""
    before = made(tmp_path / "s", 2)
    with Store(tmp_path / "s", writer=True) as store:
        batch(store)
    without_ledger(tmp_path / "s")
    path = live(tmp_path / "s")

    def cut(byte: int):
        folder = tmp_path / "cut"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "s", folder)
        os.truncate(folder / path.name, byte)
        return folder

    return cut, records(path)[-3:], before


def test_readers_writers_and_catalogs_see_none_of_it(interrupted):
    cut, group, before = interrupted
    assert [entry.header.get("more", 0) for entry in group] == [2, 1, 0]
    first, end = group[0].offset, group[-1].offset + group[-1].length
    inside = [entry.offset + part for entry in group for part in (1, 40, entry.length // 2, entry.length - 1)]
    for byte in (*inside, group[1].offset, group[2].offset):
        folder = cut(byte)
        with Store(folder) as reader:
            assert contents(reader) == before and "ends within record 3" in reader.report[0], byte
        assert len(Catalog(folder).state.entries) == 2
        tail = live(folder).read_bytes()[first:]
        with Store(folder, writer=True) as store:
            assert contents(store) == before and "cut off" in store.report[0]
            assert (folder / "unfinished-000000000003.bin").read_bytes() == tail
            batch(store)
            assert len(store.edits) == 5 and store.verify()["problems"] == []
    for byte, edits in ((first, 2), (end, 5)):
        with Store(cut(byte)) as reader:
            assert len(reader.edits) == edits and not reader.report


def test_a_reader_beside_the_writer_takes_it_whole(interrupted):
    cut, group, before = interrupted
    folder = cut(group[2].offset)
    data = live(folder.parent / "s").read_bytes()
    with Store(folder) as reader:
        assert contents(reader) == before
        for byte, edits in ((group[2].offset + 9, 2), (len(data), 5)):
            live(folder).write_bytes(data[:byte])
            reader.refresh()
            assert len(reader.edits) == edits


def test_a_change_that_was_acknowledged_in_part_stays_and_its_damage_is_told(tmp_path):
    """As a replica takes it that asks for two records at a time; and a change that was acknowledged whole."""
    made(tmp_path / "s", 2)
    with Store(tmp_path / "s", writer=True) as store:
        batch(store)
    entries = records(live(tmp_path / "s"))
    os.truncate(live(tmp_path / "s"), entries[3].offset + 5)
    with pytest.raises(Damaged, match="record 4"):
        Store(tmp_path / "s", writer=True)
    without_ledger(tmp_path / "s")
    with Store(tmp_path / "s", writer=True) as store:
        assert len(store.edits) == 2
    raws = (tmp_path / "s" / "unfinished-000000000003.bin").read_bytes()
    with Store(tmp_path / "s", writer=True) as store:
        replica.take(store, [raws[: entries[2].length]])
        assert len(store.edits) == 3
    for writer in (False, True):
        with Store(tmp_path / "s", writer=writer) as store:
            assert len(store.edits) == 3 and not store.report


def test_a_copy_keeps_what_it_took_of_a_change(interrupted, monkeypatch):
    """While it runs: when its records are read again, and when taking the next one fails."""
    cut, group, _ = interrupted
    raws = [entry.raw() for entry in group]
    folder = cut(group[0].offset)
    with Store(folder, writer=True) as copy:
        replica.take(copy, raws[:1])
        assert len(copy.history()) == 3 and copy.verify()["problems"] == []
        with monkeypatch.context() as failing:
            failing.setattr(type(copy.memory), "write", lambda *a, **k: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                replica.take(copy, raws[1:2])
    assert not list(folder.glob("unfinished-*"))
    with Store(folder, writer=True) as copy:
        assert len(copy.edits) == 3
        replica.take(copy, raws[1:])
        assert len(copy.edits) == 5 and copy.verify()["problems"] == []


def test_damage_within_a_change_is_not_taken_for_an_interruption(interrupted):
    cut, group, _ = interrupted
    folder = cut(group[2].offset)
    flip(live(folder), group[0].offset + 60, 3)
    for writer in (False, True):
        with pytest.raises(Damaged):
            Store(folder, writer=writer)


@pytest.mark.parametrize("more", [-1, 1.5, "2", True, None, 1 << 60])
def test_a_malformed_number_of_further_records_is_refused_or_unfulfilled(tmp_path, more):
    from memoir_fast.journal.record import encode

    before = made(tmp_path / "s", 2)
    without_ledger(tmp_path / "s")
    last = records(live(tmp_path / "s"))[-1]
    fields = {**last.header, "more": more}
    data = live(tmp_path / "s").read_bytes()
    live(tmp_path / "s").write_bytes(data[: last.offset] + encode(fields, last.body()))
    if more == 1 << 60:
        with Store(tmp_path / "s") as reader:
            assert len(reader.edits) == 1 < len(before[0])
    else:
        with pytest.raises(Damaged, match="malformed header"):
            Store(tmp_path / "s")


def test_single_changes_say_nothing_more(tmp_path):
    made(tmp_path / "s", 2)
    with Store(tmp_path / "s", writer=True) as store:
        add(store, 9)
    assert not any("more" in entry.header for entry in records(live(tmp_path / "s")))
