"""Values in a store's files that somebody made to do harm: checked before they are used, and refused in a short sentence."""

from __future__ import annotations

import json
import os
import shutil
import struct

import pytest
import torch
from safetensors.torch import save

from memoir_fast.errors import Damaged
from memoir_fast.journal.record import digest, encode, read_entry
from memoir_fast.store import Store, StoreError, export_bundle, import_bundle
from memoir_fast.store import folder as saving
from memoir_fast.store.log import segments
from tests.support.forging import named_again, resealed, without_ledger
from tests.support.models import tiny_memoir
from tests.support.patience import within
from tests.support.stores import HIDDEN, D, contents, new_store


def rewritten(folder, **changes):
    """Another config.json, its checksum in order; a dict changes the one that is there."""

    def change(values):
        for name, value in changes.items():
            if isinstance(value, dict) and isinstance(values.get(name), dict):
                values[name].update(value)
            else:
                values[name] = value

    resealed(folder, change)


def refused(folder, match) -> None:
    """A reader and a writer are refused, soon and in a short sentence."""
    for writer in (False, True):
        with within(), pytest.raises(ValueError, match=match) as caught:
            Store(folder, writer=writer)
        assert len(str(caught.value)) < 600


SNAPSHOT = {"file": "snapshot-000000000003.safetensors", "digest": "0" * 32, "scale": 1.0}


@pytest.mark.parametrize("changes", [
    {"fingerprint": {"in_features": 1 << 20}}, {"fingerprint": {"in_features": 1 << 18, "out_features": 1}},
    {"fingerprint": {"out_features": 1 << 20}}, {"fingerprint": {"in_features": 10**30}}, {"fingerprint": {"out_features": -1}}, {"fingerprint": {"in_features": 64.0}},
    {"fingerprint": []}, {"fingerprint": None}, {"snapshots": [{"seq": -5, **SNAPSHOT}]}, {"snapshots": [{"seq": 10**30, **SNAPSHOT}]},
    {"snapshots": [{"seq": 3, **SNAPSHOT, "scale": 2.0}]}, {"snapshots": [{"seq": 3, **SNAPSHOT, "file": "../x.safetensors"}]},
    {"snapshots": {"a": 1}}, {"snapshots": [7]}, {"record_dtype": "float64"}, {"record_dtype": []}, {"conflict": "maybe"}, {"contexts": [7]},
    {"contexts": "text"}, {"contexts": None}, {"base": 7}, {"base_file": "/etc/passwd"}, {"store": 7}, {"config": {"steps": 10**30}},
    {"config": {"top_k": 10**30}}, {"config": {"threshold": [[[[[]]]]] * 10}}, {"config": {"edit_lr": 10**400}}, {"config": []}, {"more": 1},
    {"config": {"write": []}}, {"config": {"seed": -1}}, {"x" * 5000: 1},
    {"snapshots": [{"seq": 3, **SNAPSHOT, "x" * 5000: 1}]},
], ids=lambda c: json.dumps(c)[:50])  # fmt: skip
def test_values_of_config_json_are_checked(sound, changes):
    folder, _ = sound
    rewritten(folder, **changes)
    refused(folder, r"config\.json")


@pytest.mark.parametrize("text", ["[" * 20_000, '{"a":' * 20_000, "[" * 10**6, '"' + '\\"' * 10**6, "1e400", "NaN", "9" * 10_000, "\xff", ""],
                         ids=lambda t: repr(t[:6]))  # fmt: skip
def test_json_that_is_made_to_hurt_is_refused(sound, text, tmp_path):
    folder, _ = sound
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    refused(folder, r"config\.json")
    shutil.copytree(folder, tmp_path / "memory")
    with within(), pytest.raises(ValueError, match=r"config\.json"):
        saving.read(tmp_path / "memory")


@pytest.mark.parametrize(
    "name", ["config.json", "base.safetensors", "snapshot-000000000003.safetensors", "writer.json"]
)
def test_files_larger_than_their_kind_can_be_are_not_read(sound, name):
    folder, kept = sound
    os.truncate(folder / name, 40 << 30)
    with within():
        try:
            with Store(folder, writer=True) as store:
                assert contents(store) == kept
        except ValueError as error:
            assert "more than the" in str(error)


def _last_record_changed(folder, **changes):
    """The last record's header with other values, its checksums in order."""
    path = segments(folder)[-1][1]
    data = path.read_bytes()
    entry = read_entry(data, len(data), path, 0)
    header = {k: v for k, v in entry.header.items() if k != "body"} | changes
    body = data[entry.length - entry.body_length : entry.length]
    text = json.dumps({**header, "body": digest(body).hex()}).encode()
    lengths = struct.pack("<4sIQ", b"MFR1", len(text), len(body))
    path.write_bytes(b"".join((lengths, digest(lengths, text), text, body)))
    without_ledger(folder)


@pytest.mark.parametrize("changes", [
    {"steps": 10**30}, {"steps": -1}, {"loss": float("inf")}, {"loss": float("nan")}, {"loss": "x"}, {"seconds": -1.0}, {"nearest": 2**60},
    {"id": -1}, {"id": 10**30}, {"id": "3"}, {"seq": -5}, {"seq": 10**30}, {"seq": 3.0}, {"kind": ["edit"]}, {"kind": "unknown"}, {"kind": None}, {"scale": 0.0},
    {"scale": 10**400}, {"decay": "1"}, {"dtype": ["float32"]}, {"dtype": "float64"}, {"tags": {"a": 1}}, {"tags": [[]]}, {"supersedes": [1.5]},
    {"supersedes": [77]}, {"metadata": []}, {"codes": [7]}, {"store": 7}, {"store": "f" * 32}, {"after": []}, {"after": "0" * 32}, {"was": 7},
    {"prompt": None}, {"created": 7},
], ids=lambda c: json.dumps(c)[:40])  # fmt: skip
def test_values_of_records_are_checked(sound, changes):
    folder, _ = sound
    _last_record_changed(folder, **changes)
    refused(folder, r"log-0+4\.bin|edit")


def test_what_another_library_says_of_a_file_is_cut(sound, tmp_path):
    """It quotes the file."""
    text = json.dumps("x" * 5000).encode()
    data = struct.pack("<Q", len(text)) + text
    folder, _ = sound
    (folder / "base.safetensors").write_bytes(data)
    rewritten(folder, base=digest(data).hex())
    model = tiny_memoir()
    model.save_pretrained(tmp_path / "memory")
    (tmp_path / "memory" / "memory.safetensors").write_bytes(data)
    named_again(tmp_path / "memory", "memory.safetensors")
    refused(folder, "not a safetensors file")
    with pytest.raises(ValueError, match="not a safetensors file") as caught:
        saving.read(tmp_path / "memory")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "name",
    [
        "writer.json",
        "writer.json.part",
        "config.json.part",
        "snapshot-000000000004.safetensors",
        "ledger.sqlite.damaged",
    ],
)
def test_a_folder_in_a_files_place_is_told_in_a_sentence(sound, name):
    folder, _ = sound
    if name.startswith("ledger"):
        (folder / "ledger.sqlite").write_bytes(b"no ledger")
    (folder / name).unlink(missing_ok=True)
    (folder / name / "mine").mkdir(parents=True)
    with (
        pytest.raises(ValueError, match="is a folder where a file belongs: move it away"),
        Store(folder, writer=True) as store,
    ):
        store.compact()
    assert (folder / name / "mine").is_dir()


def test_a_file_in_a_stores_place_is_told_in_a_sentence(sound, tmp_path):
    folder, _ = sound
    with Store(folder) as store:
        export_bundle(store, tmp_path / "b.mfb")
    for make in (new_store, lambda folder: import_bundle(tmp_path / "b.mfb", folder)):
        with pytest.raises(ValueError, match=r"b\.mfb: is a file where a folder belongs: name another folder"):
            make(tmp_path / "b.mfb" / "store")


def test_records_that_do_not_say_what_they_are_are_refused(sound, tmp_path):
    """In a log and in a bundle."""
    folder, _ = sound
    path = segments(folder)[-1][1]
    entry = read_entry(path.read_bytes(), path.stat().st_size, path, 0)
    header = {name: value for name, value in entry.header.items() if name != "kind"}
    path.write_bytes(encode(header, entry.body()))
    without_ledger(folder)
    refused(folder, r"log-0+4\.bin")
    (tmp_path / "b.mfb").write_bytes(encode({"seq": 0, "config": {}}))
    with pytest.raises(Damaged, match="malformed header"):
        import_bundle(tmp_path / "b.mfb", tmp_path / "imported")


@pytest.mark.parametrize("kind", ["status", "tags"])
def test_changes_of_what_is_not_there_are_told_briefly(sound, kind):
    folder, _ = sound
    path = segments(folder)[-1][1]
    entry = read_entry(path.read_bytes(), path.stat().st_size, path, 0)
    about = {"changes": [[10**4000, "x" * 5000]]} if kind == "status" else {"id": 77, "tags": []}
    kept = {name: entry.header[name] for name in ("seq", "store", "after")}
    path.write_bytes(encode({**kept, "kind": kind, "created": "2026-01-01T00:00:00+00:00", **about}))
    without_ledger(folder)
    refused(folder, "there is no such edit")


def test_a_time_that_is_none_is_refused_where_it_is_asked_for(sound):
    folder, _ = sound
    _last_record_changed(folder, created="never")
    with Store(folder, writer=True) as store:
        with pytest.raises(ValueError, match="record 4"):
            store.rollback("2026-01-01")


def test_a_bundle_with_a_hole_at_its_end_is_refused_quickly_and_one_behind_a_link_is_read(sound, tmp_path):
    folder, kept = sound
    with Store(folder) as store:
        export_bundle(store, tmp_path / "b.mfb")
    os.symlink(tmp_path / "b.mfb", tmp_path / "link.mfb")
    with import_bundle(tmp_path / "link.mfb", tmp_path / "imported") as store:
        assert contents(store) == kept
    os.truncate(tmp_path / "b.mfb", 40 << 30)
    with within(), pytest.raises(Damaged, match="does not begin as one"):
        import_bundle(tmp_path / "b.mfb", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_bundle_with_a_store_of_a_terabyte_is_refused_and_leaves_nothing(tmp_path):
    folder = new_store(tmp_path / "s").folder
    resealed(folder, lambda values: values.update(fingerprint={"in_features": 1 << 20, "out_features": 1 << 12}))
    base = save({"permutation": torch.zeros(D, dtype=torch.int32), "background": torch.zeros(D)})
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "b.mfb").write_bytes(encode({"seq": 0, "kind": "bundle", "config": config}, base))
    with within(), pytest.raises(ValueError, match="in_features"):
        import_bundle(tmp_path / "b.mfb", tmp_path / "imported")
    assert not (tmp_path / "imported").exists() and HIDDEN


def test_who_writes_is_named_without_steering_the_terminal(sound):
    folder, _ = sound
    with Store(folder, writer=True):
        (folder / "writer.json").write_text(
            json.dumps({"user": "\x1b[2Jann" + "x" * 500, "host": "\u202eh", "pid": "\r", "since": {}})
        )
        with pytest.raises(StoreError, match="another process is writing") as caught:
            Store(folder, writer=True)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700


@pytest.mark.parametrize(
    "row", [{"prompt": 7}, {"tags": "x"}, {"loss": "x"}, {"steps": 10**30}, {"supersedes": [[]]}, {"metadata": 1}]
)
def test_edits_of_a_memory_folder_are_checked(tmp_path, row):
    model = tiny_memoir()
    model.edit("w100 w101", "w150")
    model.save_pretrained(tmp_path / "memory")
    edits = json.loads((tmp_path / "memory" / "edits.json").read_text())
    edits[0].update(row)
    (tmp_path / "memory" / "edits.json").write_text(json.dumps(edits))
    named_again(tmp_path / "memory", "edits.json")
    with pytest.raises(ValueError, match=r"edits\.json"):
        saving.read(tmp_path / "memory")
    assert issubclass(Damaged, ValueError)
