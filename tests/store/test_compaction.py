"""Compaction after edits were taken back: C is added up again only where there are few edits, or where it has drifted."""

from __future__ import annotations

import errno
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from memoir_fast.journal.state import State
from memoir_fast.store import Store, StoreError, compaction
from tests.support.stores import add, contents, fact_of, new_store


def _filled(folder, count: int) -> Store:
    store = new_store(folder)
    facts, updates = zip(*(fact_of(store, number) for number in range(count)), strict=True)
    store.add(list(facts), list(updates))
    return store


def _sum(store: Store) -> torch.Tensor:
    """What C stands for."""
    total = torch.zeros_like(store.memory.C, dtype=torch.float64)
    for edit in store.state.written():
        update = store.state.update_of(edit)
        rows, A = update.rows.long(), update.features.double()
        total[rows[:, None], rows] += A.T @ A
    return total


@pytest.fixture
def reads(monkeypatch):
    """The edits whose records were read."""
    found, read = [], State.update_of
    monkeypatch.setattr(State, "update_of", lambda self, edit: found.append(edit) or read(self, edit))
    return found


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many") / "s"
    _filled(folder, compaction.FEW + 10).close()
    return folder


def test_a_few_edits_are_added_up_again_and_many_are_not(many, tmp_path, reads):
    with _filled(tmp_path / "few", 20) as store:
        store.delete(3)
        reads.clear()
        store.compact()
        assert sorted(reads) == [edit for edit in range(20) if edit != 3]
    shutil.copytree(many, tmp_path / "many")
    with Store(tmp_path / "many", writer=True) as store:
        store.delete(3), store.disable(4), store.delete(9), store.restore(9), store.delete(0)
        reads.clear()
        store.compact()
        assert reads == []
        kept, wanted = store.memory.C.clone(), _sum(store)
        assert float((kept - wanted).norm()) < 1e-6 * float(wanted.norm())
    with Store(tmp_path / "many", writer=True) as again:
        assert torch.equal(again.memory.C, kept) and again.verify()["problems"] == []


def test_a_c_that_has_drifted_is_added_up_again_also_where_the_drift_was_before_opening(many, tmp_path, reads):
    shutil.copytree(many, tmp_path / "s")
    with Store(tmp_path / "s", writer=True) as store:
        store.compact()
        C = store.memory.C
        store.memory.reads.put(torch.arange(len(C)), C + 1e-4 * C.norm() * torch.eye(len(C)))
        store.compact()  # nothing was taken back: the snapshot keeps what is there
    with Store(tmp_path / "s", writer=True) as store:
        wanted = _sum(store)
        assert float((store.memory.C - wanted).norm()) > 1e-5 * float(wanted.norm())
        store.disable(2)
        reads.clear()
        store.compact()
        assert len(reads) == len(store.state.written())
        assert float((store.memory.C - wanted).norm()) < 1e-6 * float(wanted.norm())
        reads.clear(), store.enable(2), store.compact()
        assert reads == []


def test_snapshots_of_an_earlier_version_do_not_say_how_far_c_has_drifted(many, tmp_path, monkeypatch):
    shutil.copytree(many, tmp_path / "s")
    with Store(tmp_path / "s", writer=True) as store:
        store.memory.drift = None
        store.compact()
        snapshot = store.folder / store.manifest.snapshots[0].file
        before = {"pages", "pages.digests", "C", "C.rows", "ids", "page", "signatures"}
        assert set(load_file(snapshot)) == before
        V = store.memory.V.clone()
    with Store(tmp_path / "s", writer=True) as store:
        assert torch.equal(store.memory.V, V)
        store.delete(1), store.compact()
        assert set(load_file(store.folder / store.manifest.snapshots[0].file)) == {*before, "C.sums"}
        assert store.verify()["problems"] == []


def test_a_change_that_fails_leaves_what_is_known_of_the_drift(many, tmp_path, monkeypatch):
    shutil.copytree(many, tmp_path / "s")
    with Store(tmp_path / "s", writer=True) as store:
        apply = State.apply

        def fails(self, entry, effect=True):
            apply(self, entry, effect)
            if effect and entry.header["kind"] == "status":
                raise KeyboardInterrupt

        monkeypatch.setattr(State, "apply", fails)
        with pytest.raises(KeyboardInterrupt):
            store.delete(5)
        monkeypatch.undo()
        assert store.state.statuses[5] == "active" and store.memory.drift.of(store.memory.reads) < 1e-6


def test_a_full_disk_while_updates_are_given_up_is_told_and_loses_nothing(tmp_path, monkeypatch):
    with _filled(tmp_path / "s", 4) as store:
        store.compact()
        add(store, 4), add(store, 5), store.compact()
        kept, write = contents(store), os.write

        def full(descriptor, data):
            if "/log-000000000005" in os.readlink(f"/proc/self/fd/{descriptor}"):  # the second segment
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, data)

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StoreError, match=r"compaction failed .No space left on device.; nothing is lost"):
            store.compact(forget_before=3)
        monkeypatch.undo()
        assert contents(store) == kept
        for edit in (3, 4, 5):
            assert store.state.update_of(edit).features is not None
    with Store(tmp_path / "s", writer=True) as store:
        assert contents(store) == kept and store.verify()["problems"] == []
        store.compact(forget_before=3)
        assert store.state.entries[2].forgotten and not store.state.entries[3].forgotten


def test_verify_sees_a_c_that_is_not_the_sum(many, tmp_path):
    shutil.copytree(many, tmp_path / "s")
    with Store(tmp_path / "s", writer=True) as store:
        store.delete(7)
        each = []
        assert store.verify(lambda: each.append(1))["problems"] == [] and len(each) == store.state.seq
        C = store.memory.C
        store.memory.reads.put(torch.tensor([3]), (C[3, 3] + 1e-2 * C.norm()).view(1, 1))
        (problem,) = store.verify()["problems"]
        assert "(C) differs" in problem
        beside = C[[3, 5]][:, [3, 5]] + 1e-2 * C.norm() * torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        store.memory.reads.put(torch.tensor([3, 5]), beside)  # the diagonal is right again
        (problem,) = store.verify()["problems"]
        assert "(C) differs" in problem
