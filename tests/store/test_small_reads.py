"""A store whose memory holds C in its small form: what is written comes back to the bit, and C is made again once enough was taken back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from memoir_fast import defaults
from memoir_fast.memory.low_rank import LowRank
from memoir_fast.memory.symmetric import Symmetric
from memoir_fast.store import Store, export_bundle, import_bundle
from memoir_fast.store.manifest import write_tensors
from tests.store.test_page_files import held
from tests.support.stores import add, new_journal, new_store

PAGE = 12  # edits; three rows of features each, of which two directions are kept


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(defaults, "_LEAST", 1)


def filled(folder, edits: int = 2 * PAGE - 3) -> Store:
    store = new_store(folder, page_edits=PAGE)
    for number in range(edits):
        add(store, number)
    assert isinstance(store.memory.reads, LowRank) and store.memory.reads.rank == 2
    return store


def test_a_snapshot_and_the_log_give_back_the_same(tmp_path):
    with filled(tmp_path / "s") as store:
        before = held(store)
        with Store(tmp_path / "s") as replayed:
            assert held(replayed) == before
        store.compact()
        assert held(store) == before and store.verify()["problems"] == []
        add(store, 90), store.delete(PAGE + 1), add(store, 91)
        after = held(store)
    for writer in (False, True):
        with Store(tmp_path / "s", writer=writer) as again:
            assert held(again) == after and again.verify()["problems"] == []


def test_a_reader_and_a_bundle_hold_the_same(tmp_path):
    with filled(tmp_path / "s") as store, Store(tmp_path / "s") as reader:
        add(store, 90), store.delete(PAGE), reader.refresh()
        assert held(reader) == held(store)
        for number in range(100, 100 + PAGE):
            add(store, number)
        reader.refresh()
        assert held(reader) == held(store)
        export_bundle(store, tmp_path / "b")
        with import_bundle(tmp_path / "b", tmp_path / "t") as imported:
            assert held(imported) == held(store)


def test_c_is_made_again_when_a_tenth_of_it_was_taken_back(tmp_path):
    with filled(tmp_path / "s") as store:
        store.delete(0)  # of an earlier page
        store.compact()
        assert store.memory.reads.worn == 0
        kept = store.memory.C
        store.delete(PAGE + 4), store.compact()
        fresh = LowRank(len(kept))  # one edit of nine is more than a tenth
        for edit in store.state.written():
            if store.memory.page_of(edit) == store.memory.page:
                update = store.state.update_of(edit)
                fresh.add(update.rows, update.features)
        assert torch.equal(store.memory.C, fresh.whole())
        assert store.memory.reads.worn == 0 and not torch.equal(store.memory.C, kept)
        assert store.verify()["problems"] == []
    with Store(tmp_path / "s", writer=True) as again:
        assert again.memory.reads.worn == 0 and again.verify()["problems"] == []


def test_little_that_was_taken_back_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("memoir_fast.store.compaction.MOST_WORN", 0.5)
    with filled(tmp_path / "s") as store:
        store.delete(PAGE + 4)
        worn, before = store.memory.reads.worn, held(store)
        assert 0.02 < worn < 0.5
        store.compact()
        assert store.memory.reads.worn == worn and held(store) == before and store.verify()["problems"] == []
    with Store(tmp_path / "s", writer=True) as again:
        assert again.memory.reads.worn == worn and held(again) == before


def test_a_store_of_an_earlier_version_goes_on_with_half_of_c_until_the_page_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(defaults, "_LEAST", 64)
    with new_store(tmp_path / "s", page_edits=PAGE) as store:
        for number in range(4):
            add(store, number)
        store.compact()
        kept = store.memory.C
    monkeypatch.setattr(defaults, "_LEAST", 1)
    with Store(tmp_path / "s", writer=True) as store:
        assert isinstance(store.memory.reads, Symmetric) and torch.equal(store.memory.C, kept)
        for number in range(4, PAGE + 1):
            assert isinstance(store.memory.reads, Symmetric)
            add(store, number)
        assert isinstance(store.memory.reads, LowRank) and store.verify()["problems"] == []
        store.compact()
        before = held(store)
    with Store(tmp_path / "s", writer=True) as store:
        assert held(store) == before


def test_without_a_store_taking_back_gives_the_diagonal_back():
    journal = new_journal(page_edits=PAGE)
    for number in range(7):
        add(journal, number)
    before = journal.memory.C.diagonal().clone()
    edit = add(journal, 90)
    assert not torch.allclose(journal.memory.C.diagonal(), before)
    journal.delete(edit)
    assert torch.allclose(journal.memory.reads.diagonal(), before, atol=1e-4) and journal.memory.reads.worn > 0


def test_verify_sees_a_diagonal_that_is_not_the_sums(tmp_path):
    with filled(tmp_path / "s") as store:
        assert store.verify()["problems"] == []
        store.memory.reads._rest = store.memory.reads._rest + 1e-2 * store.memory.reads.diagonal().norm()
        (problem,) = store.verify()["problems"]
        assert "(C) differs" in problem


@pytest.mark.parametrize("name", ["rest", "directions", "rows"])
def test_a_snapshot_whose_parts_of_c_do_not_fit_is_told_with_its_path(tmp_path, name):
    with filled(tmp_path / "s") as store:
        store.compact()
        before, path = held(store), store.folder / store.manifest.snapshots[0].file
        tensors = load_file(path)
        bad = {"rest": torch.zeros(3), "directions": torch.zeros(2, 3), "rows": torch.zeros(2, 3, dtype=torch.int32)}
        digest = write_tensors(path, tensors | {f"reads.{name}": bad[name]})
        kept = replace(store.manifest.snapshots[0], digest=digest)
        store.keep(replace(store.manifest, snapshots=[kept]).named())
    with Store(tmp_path / "s") as again:  # made again from the log
        assert held(again) == before
        (told,) = again.report
        assert str(path) in told and "C's" in told


def test_a_page_whose_edits_were_all_taken_back_is_sound(tmp_path):
    with filled(tmp_path / "s") as store:
        first = PAGE * store.memory.page
        store.delete(first)
        store.compact()
        for number in range(first + 1, store.next_id):
            store.delete(number)
        assert store.verify()["problems"] == []
