"""A copy of a store that follows its records: equal after each of them, all of a page or none, and nothing that is not the origin's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from memoir_fast.errors import Altered, CutOff, Damaged
from memoir_fast.store import Store, StoreError, replica
from tests.support.stores import add, contents, new_store


def raws(store: Store, after: int = 0) -> list[bytes]:
    return [entry.raw() for entry in store.history(after)]


def changed(store: Store, first: int) -> None:
    """Edits, one in the place of another, and each kind of change."""
    one, two = add(store, first), add(store, first + 1)
    add(store, first + 2, supersedes=[one])
    store.disable(two)
    store.tag(two, ["y", "z"])
    store.enable(two)
    store.delete(two)
    store.restore(two)


def copied(store: Store, tmp_path: Path, name: str = "copy") -> Store:
    folder = tmp_path / name
    folder.mkdir()
    forgotten = any(entry.forgotten for entry in store.history())
    kept = replica.told(store.manifest, forgotten)
    tensors = []
    pages = map(replica.page_file, replica.pages_of(store.folder, kept))
    for file in (kept.base_file, *(snapshot.file for snapshot in kept.snapshots), *pages):
        shutil.copy(store.folder / file, tmp_path / f"{name}-{file}")
        tensors.append((file, tmp_path / f"{name}-{file}"))
    replica.make(folder, kept, tensors, [raws(store)], "http://origin")
    return Store(folder, writer=True)


def same(copy: Store, store: Store) -> None:
    assert contents(copy) == contents(store) and copy.memory.V.equal(store.memory.V)
    assert copy.memory.scale == store.memory.scale and copy.state.tags == store.state.tags
    assert copy.history()[-1].link == store.history()[-1].link


def test_a_copy_is_equal_after_every_record_and_after_opening_it_again(tmp_path):
    store = new_store(tmp_path / "s")
    changed(store, 0)
    copy = copied(store, tmp_path)
    same(copy, store)
    for number in (10, 20):
        before = copy.state.seq
        changed(store, number)
        for raw in raws(store, before):
            replica.take(copy, [raw])
        same(copy, store)
    with pytest.raises(StoreError):
        Store(copy.folder, writer=True)
    copy.close()
    with Store(copy.folder) as again:
        same(again, store)
        assert again.verify()["problems"] == [] and replica.origin_of_copy(again.folder) == "http://origin"
    assert replica.origin_of_copy(store.folder) is None


def test_a_copy_of_an_empty_store(tmp_path):
    store = new_store(tmp_path / "s")
    with copied(store, tmp_path) as copy:
        changed(store, 0)
        replica.take(copy, raws(store))
        same(copy, store)


def test_a_copy_of_a_store_that_gave_updates_up(tmp_path):
    store = new_store(tmp_path / "s")
    changed(store, 0)
    store.compact(forget_before=2)
    changed(store, 10)
    with copied(store, tmp_path) as copy:
        same(copy, store)
    store = new_store(tmp_path / "paged", page_edits=2)
    changed(store, 0), changed(store, 20)
    store.compact(forget_before=3)
    assert len(replica.pages_of(store.folder, store.manifest)) == 3
    with copied(store, tmp_path, "of pages") as copy:
        same(copy, store)
        assert [*copy.memory.pages.held] == [0, 1, 2]


def test_nothing_is_taken_of_a_page_with_a_record_that_does_not_belong_there(tmp_path):
    store = new_store(tmp_path / "s")
    changed(store, 0)
    with copied(store, tmp_path) as copy:
        at, held = copy.state.seq, contents(copy)
        changed(store, 10)
        new = raws(store, at)
        other = new_store(tmp_path / "other")
        changed(other, 0)
        changed(other, 10)
        for page in ([*new[:2], new[3]], new[1:], [*new, *new], [*new[:3], *raws(other, at)[3:]]):
            with pytest.raises(Altered):
                replica.take(copy, page)
            assert (copy.state.seq, contents(copy)) == (at, held)
        replica.take(copy, new)
        same(copy, store)


def test_a_page_is_whole_or_refused(tmp_path):
    store = new_store(tmp_path / "s")
    changed(store, 0)
    data = b"".join(raws(store))
    assert replica.whole_records(data, "page") == raws(store) and replica.whole_records(b"", "page") == []
    for cut in (1, 31, len(raws(store)[-1]) - 1):
        with pytest.raises(CutOff):
            replica.whole_records(data[:-cut], "page")
    for place in range(0, len(data), 997):
        with pytest.raises(Damaged):
            replica.whole_records(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :], "page")


def test_settings_and_prompts_follow_and_another_memory_does_not(tmp_path):
    store = new_store(tmp_path / "s")
    changed(store, 0)
    with copied(store, tmp_path) as copy:
        calibration = store.calibration.clone()
        calibration[0] += 1
        store.configure(store.manifest.config.updated(false_activation_rate=0.2), {"calibration": calibration})
        shutil.copy(store.folder / store.manifest.base_file, tmp_path / "base")
        replica.take_settings(copy, replica.told(store.manifest, False), tmp_path / "base")
        assert copy.calibration.equal(calibration) and copy.manifest.config == store.manifest.config
        assert [path.name for path in copy.folder.glob("base*")] == [store.manifest.base_file]
        store.configure(store.manifest.config.updated(false_activation_rate=0.1))
        replica.take_settings(copy, replica.told(store.manifest, False), None)
        changed(store, 10)
        replica.take(copy, raws(store, copy.state.seq))
        same(copy, store)
    with Store(copy.folder) as again:
        same(again, store)
        assert again.manifest.config.false_activation_rate == 0.1 and again.manifest.snapshots
    other = new_store(tmp_path / "other")
    with Store(copy.folder, writer=True) as copy:
        wrong = replace(other.manifest, fingerprint={**other.manifest.fingerprint, "architecture": "Y"})
        with pytest.raises(StoreError, match="another store"):
            replica.take_settings(copy, wrong, None)
