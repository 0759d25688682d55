"""Snapshots list pages that have files of their own: only what changed is written, and a damaged page costs no more than its own records."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from memoir_fast.base import files
from memoir_fast.errors import Damaged
from memoir_fast.journal.record import digest
from memoir_fast.store import Store, StoreError, export_bundle, import_bundle, page_files, remaking, snapshots
from memoir_fast.store.manifest import checksum
from tests.support.models import bits
from tests.support.stores import HIDDEN, D, add, contents, new_store


def pages(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("page-*")}


def listed(store: Store, snapshot: int = 0) -> dict[int, str]:
    kept = store.manifest.snapshots[snapshot]
    return snapshots.pages_of(store.folder / kept.file, kept, store.manifest)


def file_of(store: Store, number: int, copy: bool = False) -> Path:
    return store.folder / page_files.file_of(listed(store)[number], copy)


def flip(path: Path, place: int = -1) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


def held(store: Store):
    """All that a store holds, to the bit."""
    memory = store.memory
    written = {number: bits(page).numpy().tobytes() for number, page in memory.pages.held.items() if page.any()}
    return contents(store), memory.scale, memory.page, written, bits(memory.C).numpy().tobytes()


@pytest.fixture
def four(tmp_path):
    """A folder with a store of four pages of three edits, some of which were taken back, and what it holds; one more edit is behind the snapshot."""
    with new_store(tmp_path / "s", page_edits=3) as store:
        for number in range(11):
            add(store, number)
        store.delete(1), store.disable(4), store.delete(7), store.restore(7)
        store.compact()
        add(store, 11)
        return tmp_path / "s", held(store)


# ---- what is written ---------------------------------------------------------------------------------------------


def test_only_pages_that_an_edit_changed_are_written_again(four):
    folder, _ = four
    with Store(folder, writer=True) as store:
        before, stamps = listed(store), {path: path.stat().st_mtime_ns for path in folder.glob("page-*")}
        assert [*before] == [0, 1, 2, 3]
        store.compact()  # the edit behind the snapshot is of the last page
        now = listed(store)
        assert [number for number in now if now[number] != before[number]] == [3]
        assert pages(folder) == {
            page_files.file_of(page) for page in (*now.values(), before[3])
        }  # the older snapshot has its own last page
        store.compact(), store.tag(2, ["y"]), store.compact()
        assert listed(store) == now and pages(folder) == {page_files.file_of(page) for page in now.values()}
        store.delete(3), store.compact()
        after = listed(store)
        assert [number for number in after if after[number] != now[number]] == [1]
        assert all(path.stat().st_mtime_ns == stamps[path] for path in stamps if path.exists())
        kept = held(store)
    for writer in (False, True):
        with Store(folder, writer=writer) as store:
            assert held(store) == kept and store.report == [] and store.verify()["problems"] == []


def test_a_page_that_is_as_before_is_not_written_after_opening_reloading_or_a_failed_change(four, monkeypatch):
    folder, _ = four
    written, write = [], files.replace
    with Store(folder, writer=True) as store:
        store.compact()
        kept = listed(store)
    monkeypatch.setattr(files, "replace", lambda path, data: written.append(path.name) or write(path, data))
    with Store(folder, writer=True) as store:
        store.compact(), store.reload(), store.compact()
        assert listed(store) == kept and not any(name.startswith("page-") for name in written)
        V = store.memory.V
        store.memory.pages.at(1).add_(1), store.compact()
        assert [name for name in written if name.startswith("page-")] == [file_of(store, 1).name]
        with Store(folder) as reader:
            assert not torch.equal(reader.memory.V, V) and torch.equal(reader.memory.V, store.memory.V)


@pytest.mark.parametrize("change", ["write", "put", "at", "take", "V", "clear", "keep_to", "forget_blocks"])
def test_every_way_to_change_a_page_is_seen(tmp_path, change):
    with new_store(tmp_path / "s", page_edits=0 if change == "V" else 2) as store:
        add(store, 0), add(store, 1), add(store, 2)
        memory, numbers = store.memory, [*store.memory.pages.held]
        before = {number: memory.pages.version(number) for number in numbers}
        memory.rows_of(torch.arange(3)), memory.block_of(1), memory.pages.norm(), memory.pages.page(0)
        assert {number: memory.pages.version(number) for number in numbers} == before  # these only read
        {
            "write": lambda: store.delete(0),
            "put": lambda: memory.pages.put(torch.tensor([3]), torch.ones(1, HIDDEN)),
            "at": lambda: memory.pages.at(0).mul_(2),
            "take": lambda: memory.pages.take(0, torch.ones(D, HIDDEN)),
            "V": lambda: memory.V.mul_(2),
            "clear": memory.pages.clear,
            "keep_to": lambda: (memory.pages.keep_to(0), memory.pages.at(1), memory.pages.at(0)),
            "forget_blocks": memory.forget_blocks,
        }[change]()
        after = {number: memory.pages.version(number) for number in memory.pages.held}
        assert after[0] != before[0] and (
            1 not in after or (after[1] == before[1]) == (change in ("write", "put", "at", "take"))
        )


def test_a_page_whose_file_is_gone_or_cut_short_is_written_again(four):
    folder, _ = four
    with Store(folder, writer=True) as store:
        store.compact()
        kept = held(store)
        file_of(store, 0).unlink()
        os.truncate(file_of(store, 2), 100)
        store.compact()
        assert store.verify()["problems"] == []
    with Store(folder) as store:
        assert held(store) == kept and store.report == []


# ---- what is damaged ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", [False, True], ids=["reader", "writer"])
@pytest.mark.parametrize("how", ["flip", "cut", "gone", "link", "other"])
def test_a_damaged_page_is_told_and_made_again_from_its_own_records_to_the_bit(
    four, tmp_path, monkeypatch, writer, how
):
    folder, kept = four
    with Store(folder) as store:
        path, other = file_of(store, 1), file_of(store, 2)
    if how == "flip":
        flip(path, 200)
    elif how == "cut":
        os.truncate(path, path.stat().st_size - 1)
    elif how == "gone":
        path.unlink()
    elif how == "link":
        shutil.move(path, tmp_path / "aside"), os.symlink(tmp_path / "aside", path)
    else:
        shutil.copy(other, path)
    read, update = [], remaking.edit_update
    monkeypatch.setattr(
        remaking, "edit_update", lambda entry, *more: read.append(entry.header["id"]) or update(entry, *more)
    )
    with Store(folder, writer=writer) as store:
        assert held(store) == kept
        assert (
            len(store.report) == 1
            and path.name in store.report[0]
            and "page 1 was made again from the log" in store.report[0]
        )
        assert set(read) == {3, 4, 5}
        assert any(path.name in problem for problem in store.verify()["problems"])
        if writer:
            store.compact()
            assert store.verify()["problems"] == []
    if writer:
        with Store(folder) as store:
            assert held(store) == kept and store.report == []


def test_a_damaged_page_and_a_damaged_record_cost_the_snapshot(four):
    folder, kept = four
    with Store(folder, writer=True) as store:
        add(store, 12), store.delete(12), store.compact()
        kept, V, path = held(store), store.memory.V, file_of(store, 3)
        entry = store.state.entries[9]
        assert listed(store)[3] != listed(store, 1)[3]
    flip(path), flip(entry.path, entry.offset + entry.length - 1)
    with Store(folder) as store:  # the older snapshot has a last page of its own
        assert contents(store) == kept[0] and torch.allclose(store.memory.V, V, atol=1e-5)
        assert len(store.report) == 1 and path.name in store.report[0] and "older snapshot" in store.report[0]


def test_updates_that_were_given_up_outlive_any_one_damaged_file(tmp_path):
    folder, damaged = tmp_path / "s", tmp_path / "damaged"
    with new_store(folder, page_edits=2) as store:
        for number in range(8):
            add(store, number)
        store.compact(), add(store, 8), store.compact(forget_before=3)
    for again in range(3):
        with Store(folder) as store:
            kept, forgotten = held(store), {page_files.file_of(listed(store)[number], True) for number in (0, 1)}
            assert forgotten <= pages(folder) and not any(file_of(store, number, True).exists() for number in (2, 3))
        for name in sorted(path.name for path in folder.iterdir() if path.name.startswith(("page-", "snapshot-"))):
            for how in (flip, os.unlink):
                shutil.copytree(folder, damaged)
                how(damaged / name)
                for writer in (False, True):
                    with Store(damaged, writer=writer) as store:
                        assert (held(store)[0], held(store)[3]) == (kept[0], kept[3]), name
                        if writer:
                            add(store, 30), store.compact()
                            add(store, 31), store.compact()
                            assert store.verify()["problems"] == [], name
                            now = held(store)
                with Store(damaged) as store:
                    assert store.report == [] and held(store) == now
                shutil.rmtree(damaged)
        with Store(folder, writer=True) as store:
            add(store, 20 + again) if again else store.delete(3)  # of a page of which updates were given up
            store.compact()
    with Store(folder) as store:
        flip(file_of(store, 0)), flip(file_of(store, 0, copy=True))
    with pytest.raises(Damaged, match=r"page-.*checksum.*given up.*put a snapshot back from a copy"):
        Store(folder)


def _with_page(store: Store, data: bytes) -> str:
    """Put other bytes into the file of page 1, and let the snapshot and `config.json` name them; returns the file's name."""
    path = store.folder / store.manifest.snapshots[0].file
    tensors, page = load_file(path), digest(data)
    tensors["pages.digests"][1] = torch.tensor(list(page), dtype=torch.uint8)
    files.replace(store.folder / page_files.file_of(page.hex()), data)
    files.replace(path, save(tensors))
    values = json.loads((store.folder / "config.json").read_text())
    values["snapshots"][0]["digest"] = digest(path.read_bytes()).hex()
    values.pop("checksum")
    (store.folder / "config.json").write_text(json.dumps({**values, "checksum": checksum(values)}))
    return page_files.file_of(page.hex())


def _rows(*rows: int) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int32)


@pytest.mark.parametrize(
    "tensors",
    [
        {"V": torch.ones(2, HIDDEN)},
        {"V": torch.ones(0, HIDDEN), "V.rows": _rows()},
        {"V": torch.ones(2, HIDDEN), "V.rows": _rows(4, 3)},
        {"V": torch.ones(2, HIDDEN), "V.rows": _rows(3, 3)},
        {"V": torch.ones(2, HIDDEN), "V.rows": _rows(-1, 3)},
        {"V": torch.ones(2, HIDDEN), "V.rows": _rows(3, D)},
        {"V": torch.ones(2, HIDDEN), "V.rows": _rows(3)},
        {"V": torch.ones(2, HIDDEN + 1), "V.rows": _rows(3, 4)},
        {"V": torch.ones(2, HIDDEN), "V.rows": torch.tensor([3, 4])},
        {"V": torch.ones(2, HIDDEN, dtype=torch.float64), "V.rows": _rows(3, 4)},
        {"V": torch.ones(2, HIDDEN), "V.rows": _rows(3, 4), "more": torch.ones(1)},
        {"V": torch.full((2, HIDDEN), float("nan")), "V.rows": _rows(3, 4)},
        {"V": torch.full((2, HIDDEN), float("-inf")), "V.rows": _rows(3, 4)},
        {"V": torch.ones(D + 1, HIDDEN), "V.rows": torch.arange(D + 1, dtype=torch.int32)},
        b"",
        b"\x02\0\0\0\0\0\0\0{}",
        b"\xff" * 40,
        b"\x04\0\0\0\0\0\0\0[[[[",
    ],
)
def test_a_file_that_is_no_page_is_told_and_the_page_made_again(four, tensors):
    folder, kept = four
    with Store(folder, writer=True) as store:
        name = _with_page(store, tensors if isinstance(tensors, bytes) else save(tensors))
    with Store(folder) as store:
        assert held(store) == kept and len(store.report) == 1 and name in store.report[0]


def test_a_page_may_hold_its_tensors_in_either_order(tmp_path):
    V, rows = torch.randn(D, HIDDEN), torch.arange(D, dtype=torch.int32)
    for some in (D, 5):
        size, count = 4 * some * HIDDEN, 4 * some
        for first in ("V", "V.rows"):
            places = (
                {"V": [0, size], "V.rows": [size, size + count]}
                if first == "V"
                else {"V": [count, size + count], "V.rows": [0, count]}
            )
            told = {"V": {"dtype": "F32", "shape": [some, HIDDEN]}, "V.rows": {"dtype": "I32", "shape": [some]}}
            header = json.dumps({name: {**told[name], "data_offsets": places[name]} for name in told}).encode()
            parts = {"V": V[:some].numpy().tobytes(), "V.rows": rows[:some].numpy().tobytes()}
            data = (
                len(header).to_bytes(8, "little")
                + header
                + b"".join(parts[name] for name in sorted(parts, key=lambda name: places[name][0]))
            )
            (tmp_path / "page").write_bytes(data)
            page, length = page_files.read_file(tmp_path / "page", digest(data).hex(), (D, HIDDEN))
            assert length == len(data) and torch.equal(page[:some], V[:some]) and not page[some:].any()


# ---- what breaks off ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forget", [None, 5])
def test_a_compaction_that_fails_at_any_call_loses_nothing_and_can_be_made_again(four, tmp_path, monkeypatch, forget):
    folder, _ = four
    real = {name: getattr(os, name) for name in ("write", "fsync", "replace", "unlink")}
    for failing in range(200):
        shutil.copytree(folder, tmp_path / "case")
        count = 0

        def call(name, *arguments, failing=failing, **named):
            nonlocal count
            count += 1
            if count > failing:
                raise OSError(28, "No space left on device")
            return real[name](*arguments, **named)

        with Store(tmp_path / "case", writer=True) as store:
            store.delete(5)
            changed = held(store)
            for name in real:
                monkeypatch.setattr(os, name, lambda *a, _name=name, **k: call(_name, *a, **k))
            try:
                store.compact(forget)
                whole = True
            except StoreError:
                whole = False
            for name in real:
                monkeypatch.setattr(os, name, real[name])
            assert held(store) == changed
        for writer in (False, True):
            with Store(tmp_path / "case", writer=writer) as store:
                assert held(store) == changed and store.verify()["problems"] == [], failing
                if writer:
                    store.compact(forget)
                    names = {
                        name
                        for one in range(2)
                        for page in listed(store, one).values()
                        for name in snapshots.page_names([page])
                    }
                    assert pages(tmp_path / "case") <= names and not list((tmp_path / "case").glob("*.part"))
        shutil.rmtree(tmp_path / "case")
        if whole:
            break
    assert whole and failing > 15, failing


# ---- copies ------------------------------------------------------------------------------------------------------


def test_a_bundle_carries_the_pages_of_updates_that_were_given_up(tmp_path):
    with new_store(tmp_path / "s", page_edits=2) as store:
        for number in range(7):
            add(store, number)
        store.compact(forget_before=3), add(store, 7)
        kept = held(store)
        flip(file_of(store, 0))  # its copy is read
        export_bundle(store, tmp_path / "b.mfb")
    with import_bundle(tmp_path / "b.mfb", tmp_path / "again") as store:
        assert held(store) == kept and store.report == []
        store.compact()
    with Store(tmp_path / "again") as store:
        assert held(store) == kept and store.verify()["problems"] == []
    with Store(tmp_path / "s") as store:
        flip(file_of(store, 0, copy=True))
        with pytest.raises(ValueError, match=r"page-.*there is no copy|page-.*checksum"):
            export_bundle(store, tmp_path / "c.mfb")
    assert not (tmp_path / "c.mfb").exists()


def test_a_store_of_an_earlier_version_gets_page_files_at_its_next_compaction(tmp_path):
    shutil.copytree(Path(__file__).parents[1] / "golden" / "v6" / "store", tmp_path / "s")
    with Store(tmp_path / "s", writer=True) as store:
        kept = held(store)
        assert not pages(tmp_path / "s") and len(store.manifest.snapshots) == 1
        store.compact()
        assert [*listed(store)] == [0, 1] and listed(store, 1) == {}  # page 2 is zeros: its only edit was taken back
    with Store(tmp_path / "s") as store:
        assert held(store) == kept and store.verify()["problems"] == []
        flip(tmp_path / "s" / store.manifest.snapshots[0].file)
    with Store(tmp_path / "s") as store:
        assert contents(store) == kept[0] and "older snapshot" in store.report[0]
