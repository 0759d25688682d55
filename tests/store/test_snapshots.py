"""Snapshots and memory folders hold what edits have touched, and give it back to the bit."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save

from memoir_fast.base import files
from memoir_fast.journal.record import digest
from memoir_fast.store import Store, page_files, snapshots
from memoir_fast.store import folder as folders
from memoir_fast.store.manifest import checksum
from tests.support.models import bits, tiny_memoir, tiny_model, word_tokenizer
from tests.support.stores import HIDDEN, D, K, add, new_store


def _same(store: Store, other: Store) -> None:
    for name in ("V", "C"):
        assert torch.equal(bits(getattr(store.memory, name)), bits(getattr(other.memory, name)))


def _tensors(store: Store) -> dict[str, torch.Tensor]:
    return load_file(store.folder / store.manifest.snapshots[0].file)


def _page(store: Store, number: int = 0) -> dict[str, torch.Tensor]:
    """What the file of a page of the newest snapshot holds."""
    return load_file(store.folder / page_files.file_of(snapshots.listed(_tensors(store))[number]))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_opened_store_is_the_live_one_to_the_bit(tmp_path, dtype):
    with new_store(tmp_path / "s", record_dtype=dtype) as store:
        for number in range(30):
            add(store, number)
            if number % 7 == 3:
                store.delete(number - 1)
            if number == 20:
                store.compact()
        with Store(tmp_path / "s") as reader:
            _same(store, reader)
        store.compact(), store.delete(3), store.restore(2)
        with Store(tmp_path / "s") as reader:
            _same(store, reader)
            assert reader.verify()["problems"] == []


def test_a_snapshot_holds_only_what_was_touched(tmp_path):
    with new_store(tmp_path / "s") as store:
        store.compact()
        assert {name: tensor.numel() for name, tensor in _tensors(store).items() if name[0] in "pC" and "sums" not in name} == {
            "pages": 0, "pages.digests": 0, "page": 1, "C": 0, "C.rows": 0}  # fmt: skip
        add(store, 0)
        store.compact()
        tensors, page, rows = _tensors(store), _page(store), store.memory.indices_of(0)
        assert torch.equal(page["V.rows"], rows) and torch.equal(tensors["C.rows"], rows)
        assert torch.equal(page["V"], store.memory.V[rows.long()]) and tensors["C"].shape == (K * (K + 1) // 2,)
        with Store(tmp_path / "s") as reader:
            _same(store, reader)
        for number in range(1, 40):
            add(store, number)
        store.compact()
        assert _page(store)["V"].shape == (D, HIDDEN) and _tensors(store)["C"].shape == (D * (D + 1) // 2,)


def _as_before(store: Store) -> None:
    """Put V and C of the newest snapshot as version 4 wrote them, C not quite symmetric."""
    C = store.memory.C.clone()
    C[0, 1] += C[0, 1].abs() * 1e-6
    index = store.memory.index
    tensors = {"V": store.memory.V, "C": C, "ids": torch.tensor(index.ids), "signatures": torch.from_numpy(index.signatures())}  # fmt: skip
    _replace(store, tensors)


def _replace(store: Store, tensors: dict[str, torch.Tensor]) -> None:
    """Put other tensors into the newest snapshot, under a digest and a checksum that fit."""
    kept, data = store.manifest, save(tensors)
    files.replace(store.folder / kept.snapshots[0].file, data)
    values = json.loads((store.folder / "config.json").read_text())
    values["snapshots"][0]["digest"] = digest(data).hex()
    values.pop("checksum")
    (store.folder / "config.json").write_text(json.dumps({**values, "checksum": checksum(values)}))


def test_a_whole_snapshot_of_an_earlier_version_is_read_and_made_symmetric(tmp_path):
    with new_store(tmp_path / "s") as store:
        for number in range(20):
            add(store, number)
        store.compact()
        _as_before(store)
    with Store(tmp_path / "s", writer=True) as store:
        assert store.report == [] and torch.equal(bits(store.memory.C), bits(store.memory.C.T))
        store.compact()
        with Store(tmp_path / "s") as reader:
            _same(store, reader)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("V.rows", lambda t: t.flip(0)),
        ("V.rows", lambda t: t + D),
        ("C.rows", lambda t: t - 1 - int(t[0])),
        ("C.rows", lambda t: t * 0 + 3),
        ("C.rows", lambda t: t[1:]),
        ("V.rows", lambda t: t[:-1]),
        ("C.rows", lambda t: t.long()),
        ("C", lambda t: t[:-1]),
        ("C", lambda t: t.view(-1, 1)),
        ("V", lambda t: t * float("nan")),
    ],
)
def test_rows_that_do_not_fit_are_told_and_the_log_is_replayed(tmp_path, name, change):
    with new_store(tmp_path / "s") as store:
        add(store, 0), add(store, 1)
        store.compact()
        tensors = snapshots.tensors_of(store.memory)  # as versions 5 and 6 wrote them
        _replace(store, {**tensors, name: change(tensors[name]).contiguous()})
        with Store(tmp_path / "s") as reader:
            assert f"tensor {name.partition('.')[0]}" in reader.report[0].replace("'", "")
            _same(store, reader)


def test_a_memory_folder_claims_no_more_than_a_machine_has(tmp_path):
    model = tiny_memoir(steps=2, write="preconditioned")
    model.edit("w100 w101 w102", "w150")
    model.save_pretrained(str(tmp_path / "m"))
    tensors = load_file(tmp_path / "m" / "memory.safetensors")
    assert len(tensors["C.rows"]) == len(tensors["V.rows"]) == model.memory.top_k
    saved = folders.load_state(tmp_path / "m")
    assert torch.equal(bits(saved.memory.C), bits(model.memory.C)) and torch.equal(
        bits(saved.memory.V), bits(model.memory.V)
    )
    values = json.loads((tmp_path / "m" / "config.json").read_text())
    values.pop("checksum"), values["fingerprint"].update(in_features=1 << 22)
    (tmp_path / "m" / "config.json").write_text(json.dumps({**values, "checksum": checksum(values)}))
    with pytest.raises(ValueError, match="more than this machine has"):
        folders.load_state(tmp_path / "m")


def test_what_a_file_holds_is_on_the_cpu_and_shares_no_rounding(tmp_path):
    with new_store(tmp_path / "s") as store:
        add(store, 0)
        tensors = snapshots.tensors_of(store.memory)
        assert {tensor.device.type for tensor in tensors.values()} == {"cpu"}
        assert {name: str(tensor.dtype) for name, tensor in tensors.items()} == {
            "V.rows": "torch.int32", "V": "torch.float32", "ids": "torch.int64", "signatures": "torch.uint8", "C": "torch.float32",
            "C.rows": "torch.int32", "C.sums": "torch.float64", "page": "torch.int64"}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_store_of_several_pages_is_opened_as_the_live_one_to_the_bit(tmp_path, dtype):
    with new_store(tmp_path / "s", page_edits=4, record_dtype=dtype) as store:
        for number in range(18):
            add(store, number)
            if number in (6, 9):
                store.compact(), store.delete(number - 4)  # of an earlier page
            if number == 12:
                store.disable(12), store.delete(11), store.restore(2)
            with Store(tmp_path / "s") as reader:
                _same(store, reader)
                assert reader.memory.page == store.memory.page == number // 4
        store.compact()
        tensors = _tensors(store)
        assert tensors["page"].tolist() == [4] and tensors["pages"].tolist() == [0, 1, 2, 3, 4]
        with Store(tmp_path / "s") as reader:
            _same(store, reader)
            assert reader.verify()["problems"] == []


def test_a_reader_follows_into_the_next_page(tmp_path):
    with new_store(tmp_path / "s", page_edits=2) as store, Store(tmp_path / "s") as reader:
        for number in range(5):
            add(store, number)
            reader.refresh()
            _same(store, reader)
        store.delete(0), store.compact(), add(store, 6)
        reader.refresh()
        _same(store, reader)


def test_a_snapshots_pages_are_those_that_its_edits_can_have(tmp_path):
    """A page number costs a file eight bytes, and a reader a page."""
    with new_store(tmp_path / "s", page_edits=4) as store:
        for number in range(5):
            add(store, number)
        store.compact()
        old, kept = snapshots.tensors_of(store.memory), _tensors(store)
        for tensors, change in (
            (kept, {"page": torch.tensor([2])}),
            (kept, {"page": torch.tensor([-1])}),
            (kept, {"pages": kept["pages"] + 1}),
            (kept, {"pages": kept["pages"].flip(0)}),
            (old, {"V.rows": old["V.rows"] + D}),
        ):
            _replace(store, {**tensors, **change})
            with Store(tmp_path / "s") as reader:
                assert any("ascending numbers in 0.." in line for line in reader.report), reader.report
                _same(store, reader)  # made again from the log


def test_a_file_that_names_more_pages_than_there_is_room_for_is_refused(tmp_path):
    """A row costs a file a few dozen bytes, and a reader a page."""
    D, d, count = 1 << 15, 1 << 15, 1000  # 4 GiB a page
    rows = torch.arange(count, dtype=torch.int32) * D
    with pytest.raises(ValueError, match="more than this machine has"):
        snapshots.check_rows({"V.rows": rows}, tmp_path, (D, d), False, count)
    with pytest.raises(ValueError, match="more than this machine has"):
        snapshots.check_rows({"pages": rows // D}, tmp_path, (D, d), False, count)
    snapshots.check_rows({"V.rows": rows[:1]}, tmp_path, (D, d), False, count)
    snapshots.check_rows({"pages": rows[:1]}, tmp_path, (D, d), False, count)


def test_a_folder_keeps_its_pages(tmp_path):
    model = tiny_memoir(write="preconditioned", page_edits=2, steps=2)
    for number in range(5):
        model.edit(f"w{100 + number} w{number} w7", f"w{150 + number}")
    model.save_pretrained(str(tmp_path / "m"))
    again = type(model).load(str(tmp_path / "m"), tiny_model("llama"), word_tokenizer())
    assert torch.equal(again.memory.V, model.memory.V) and torch.equal(again.memory.C, model.memory.C)
    assert again.memory.page == 2 and again.config.page_edits == 2
    again.edit("w90 w91 w92", "w160"), model.edit("w90 w91 w92", "w160")
    assert torch.equal(again.memory.V, model.memory.V)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["config"]["page_edits"] = 4  # then its rows lie beyond the pages that five edits have
    config["checksum"] = checksum({name: value for name, value in config.items() if name != "checksum"})
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"'V.rows' must hold ascending numbers in 0..\d+"):
        folders.read(tmp_path / "m")


@pytest.mark.parametrize("page_edits", [3, 5, 7])
def test_a_page_whose_edits_were_all_taken_back_is_sound(tmp_path, page_edits):
    """`verify` measures rounding errors by the largest C that its page had, however few records its edits came and went in."""
    with new_store(tmp_path / "s", page_edits=page_edits) as store:
        for number in range(2 * page_edits):
            add(store, number)
        store.delete(page_edits)
        store.compact()  # makes C again from the records
        for number in range(page_edits + 1, 2 * page_edits):
            store.delete(number)
        assert store.memory.page == 1 and store.verify()["problems"] == []
        store.memory.reads.add(torch.arange(2, dtype=torch.int32), torch.ones(1, 2))
        assert "differs from the log" in store.verify()["problems"][0]
