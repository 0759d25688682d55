"""Files that a release wrote stay readable: docs/formats.md as golden files, see tests/golden/make.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from memoir_fast.reading.matching.matcher import Matcher, Wording
from memoir_fast.reading.measure import parted
from memoir_fast.store import Store, import_bundle
from memoir_fast.store import folder as saving
from tests.support.models import word_tokenizer

GOLDEN = Path(__file__).parents[1] / "golden"
VERSIONS = sorted(path.name for path in GOLDEN.glob("v*"))


@pytest.fixture(params=VERSIONS)
def golden(request, tmp_path):
    """A copy of one version's files, for a writer changes a store's folder, and what must be found in them."""
    shutil.copytree(GOLDEN / request.param, tmp_path / "golden")
    return tmp_path / "golden", json.loads((GOLDEN / request.param / "expected.json").read_text())


def says(store: Store, expected: dict) -> None:
    """The store says what `expected` says."""
    state, memory = store.state, store.memory
    assert list(store.manifest.sizes) == expected["sizes"]
    assert (state.seq, state.next_id) == (expected["seq"], expected["next_id"])
    assert {str(edit): status for edit, status in state.statuses.items()} == expected["statuses"]
    for edit, row in zip(state.entries, expected["rows"], strict=True):
        assert row.items() <= state.row(edit).items()  # a later version may know more of an edit, never less
    assert float(memory.V.norm()) == pytest.approx(expected["norm_of_V"], rel=1e-5)
    assert float(memory.C.trace()) == pytest.approx(expected["trace_of_C"], rel=1e-5)
    found = {str(edit): memory.index.signature(edit).tobytes().hex() for edit in memory.index.ids}
    assert found == expected["signatures"]


@pytest.mark.parametrize("writer", [False, True], ids=["reader", "writer"])
def test_a_store_opens_and_says_the_same(golden, writer):
    folder, expected = golden
    with Store(folder / "store", writer=writer) as store:
        says(store, expected)
        assert store.report == [] and store.verify()["problems"] == []


def test_the_ledger_of_a_golden_store_has_its_rows(golden):
    folder, expected = golden
    with Store(folder / "store", writer=True) as store:
        for row, wanted in zip(store.ledger_rows(), expected["rows"], strict=True):
            assert wanted.items() <= row.items()


def test_a_bundle_is_imported_and_says_the_same(golden, tmp_path):
    folder, expected = golden
    with import_bundle(folder / "bundle.mfb", tmp_path / "imported") as store:
        says(store, expected)


def test_an_edit_of_a_golden_store_can_be_taken_back_and_brought_back(golden):
    folder, _ = golden
    with Store(folder / "store", writer=True) as store:
        store.enable(1)
        store.restore(4)
        store.delete(2)  # edit 0, which it had replaced, comes back
        assert store.state.statuses == {0: "active", 1: "active", 2: "deleted", 3: "active", 4: "active"}
        assert store.verify()["problems"] == []


def test_a_memory_folder_is_read_and_says_the_same(golden):
    folder, expected = golden
    saved = saving.read(folder / "memory")
    assert saved.next_id == expected["next_id"] and len(saved.contexts) == 10
    active = [row for row in expected["rows"] if row["status"] == "active"]
    assert [edit["id"] for edit in saved.edits] == saved.tensors["ids"].tolist() == [row["id"] for row in active]
    for edit, row in zip(saved.edits, active, strict=True):
        assert row.items() <= edit.items()
    assert float(saved.tensors["V"].norm()) == pytest.approx(expected["norm_of_V"], rel=1e-5)
    signatures = [bytes(row).hex() for row in saved.tensors["signatures"].numpy()]
    assert dict(zip(map(str, saved.tensors["ids"].tolist()), signatures, strict=True)) == expected["signatures"]


@pytest.mark.parametrize("version", [version for version in VERSIONS if version != "v1"])  # v1: masks alone routed
def test_the_wordings_of_a_golden_store_are_read(version):
    with Store(GOLDEN / version / "store") as store:
        matcher = Matcher.from_state(store.words, word_tokenizer())
        assert len(parted(store.words["unrelated"], matcher.bits)) == 50
        for entry in store.state.entries.values():
            header = entry.header
            texts = [header["prompt"], *header["rephrasings"], *header["not_prompts"]]
            codes = [matcher.code(Wording.unpacked(code, matcher.bits)) for code in header["codes"]]
            assert [len(code) for code in codes] == [len(text.split()) for text in texts]
        assert store.state.row(1)["key"] == "b" and store.state.row(1)["rephrasings"] == ["w113 w112"]
