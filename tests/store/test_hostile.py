"""Stores and memory folders that somebody made to do harm: nothing outside is touched, nothing hangs, and every refusal is a sentence."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct

import pytest

from memoir_fast.store import Store, StoreError, import_bundle, lock
from memoir_fast.store import folder as saving
from tests.support.models import tiny_memoir
from tests.support.patience import within
from tests.support.stores import add, contents

# ---- the ledger --------------------------------------------------------------------------------------------------


def _with_super_journal(path, victim):
    """A rollback journal that names a super-journal: SQLite deletes that after the rollback."""
    name = str(victim).encode()
    magic = bytes([0xD9, 0xD5, 0x05, 0xF9, 0x20, 0xA1, 0x63, 0xD7])
    pages = path.stat().st_size // 4096
    header = magic + struct.pack(">IIIII", 0, 0, pages, 512, 4096)
    tail = struct.pack(">I", 4096) + name + struct.pack(">II", len(name), sum(name)) + magic
    path.with_name(path.name + "-journal").write_bytes(header.ljust(512, b"\0") + tail)


def test_a_rollback_journal_is_set_aside_and_what_it_names_stays(sound, tmp_path):
    folder, kept = sound
    victim = tmp_path / "precious.txt"
    victim.write_text("mine")
    _with_super_journal(folder / "ledger.sqlite", victim)
    with Store(folder) as reader:
        assert contents(reader) == kept
    with Store(folder, writer=True) as store:
        assert contents(store) == kept and "rollback journal" in store.report[0] and len(store.ledger_rows()) == 4
    assert victim.read_text() == "mine" and not (folder / "ledger.sqlite-journal").exists()
    os.symlink(victim, folder / "ledger.sqlite-journal")
    Store(folder, writer=True).close()
    assert victim.read_text() == "mine"


ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 1 AS one, max(i) AS seq, '' AS store FROM n"
)


@pytest.mark.parametrize("statements", [
    ["DROP TABLE log", f"CREATE VIEW log AS {ENDLESS}"],
    ["DROP TABLE edits", "CREATE VIEW edits AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT * FROM n"],
    ["CREATE TRIGGER forge AFTER INSERT ON edits BEGIN UPDATE edits SET target = 'forged'; END"],
    ["CREATE TRIGGER late AFTER INSERT ON log BEGIN DELETE FROM edits; END"],
    ["CREATE VIRTUAL TABLE t USING fts4(x)"],
    ["CREATE TABLE more (x)"],
    ["CREATE INDEX heavy ON edits (lower(prompt))"],
    ["DROP TABLE log", "CREATE TABLE log (one INTEGER PRIMARY KEY, seq AS (one * 1000) STORED, store TEXT)"],
    ["UPDATE log SET seq = 'text'"], ["UPDATE log SET seq = -4"], ["UPDATE log SET seq = 9e300"], ["UPDATE log SET store = x'00ff'"],
    ["UPDATE edits SET metadata = '" + "[" * 5000 + "'"], ["UPDATE edits SET tags = 7"], ["UPDATE edits SET id = id + 90"],
    ["INSERT INTO edits SELECT id + 10, zeroblob(1000000), target, author, created, status, loss, steps, seconds, nearest, overlap, "
     "supersedes, tags, metadata, seq, rephrasings, not_prompts, subject, key FROM edits"],
], ids=lambda s: s[-1][:30])  # fmt: skip
def test_a_ledger_with_a_life_of_its_own_is_made_again(sound, statements):
    folder, kept = sound
    connection = sqlite3.connect(folder / "ledger.sqlite", isolation_level=None)
    for statement in statements:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            pytest.skip(f"this SQLite has no {error}")
    connection.close()
    with within():
        with Store(folder) as reader:
            assert contents(reader) == kept
        with Store(folder, writer=True) as store:
            assert contents(store) == kept and store.report != []
            assert [row["target"] for row in store.ledger_rows()] == ["t"] * 4
            add(store, 9)
            assert store.verify()["problems"] == []


def test_a_sparse_ledger_is_set_aside(sound):
    folder, kept = sound
    os.truncate(folder / "ledger.sqlite", 40 << 30)
    with within(), Store(folder, writer=True) as store:
        assert contents(store) == kept and "larger than" in store.report[0]


# ---- pipes, links, devices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_what_is_no_regular_file_is_refused_without_waiting(sound, tmp_path, kind):
    folder, _ = sound
    (tmp_path / "outside").write_text("mine")

    def put(path):
        path.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            os.symlink(tmp_path / "outside", path)

    names = [p.name for p in folder.iterdir()] + ["ledger.sqlite-wal", "ledger.sqlite-shm", "ledger.sqlite-journal"]
    for name in names:
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        put(copy / name)
        for writer in (False, True):
            with within():
                try:
                    with Store(copy, writer=writer) as store:
                        store.verify()
                except (ValueError, StoreError, OSError) as error:
                    assert str(copy) in str(error) or name in str(error)
        assert (tmp_path / "outside").read_text() == "mine", name
        shutil.rmtree(copy)
    model = tiny_memoir()
    model.save_pretrained(tmp_path / "memory")
    for name in ("config.json", "edits.json", "memory.safetensors"):
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "memory", copy)
        put(copy / name)
        with within(), pytest.raises((ValueError, OSError), match=name):
            saving.read(copy)
        shutil.rmtree(copy)
    put(tmp_path / "bundle.mfb")
    with within(), pytest.raises((ValueError, OSError)):
        import_bundle(tmp_path / "bundle.mfb", tmp_path / "imported")


def test_a_lock_that_leads_elsewhere_is_refused(sound, tmp_path):
    folder, kept = sound
    (tmp_path / "mine").write_text("mine")
    (folder / "lock").unlink()
    os.symlink(tmp_path / "mine", folder / "lock")
    with pytest.raises(ValueError, match="symbolic link"):
        Store(folder, writer=True)
    (folder / "lock").unlink()
    os.link(tmp_path / "mine", folder / "lock")
    with pytest.raises(ValueError, match="not empty"):
        Store(folder, writer=True)
    assert (tmp_path / "mine").read_text() == "mine"
    (folder / "lock").unlink()
    with Store(folder, writer=True) as store:
        assert contents(store) == kept


def test_a_lock_that_becomes_a_link_at_the_last_moment_is_not_followed(sound, tmp_path, monkeypatch):
    """Between the store's own look and the locking, which is filelock's: the lower bound in pyproject is the first version that refuses."""
    folder, kept = sound
    (tmp_path / "mine").write_text("mine")
    look, looks = lock._check, []

    def late(path):
        look(path)
        if not looks:
            path.unlink(missing_ok=True)
            path.symlink_to(tmp_path / "mine")
        looks.append(path)

    monkeypatch.setattr(lock, "_check", late)
    with pytest.raises(ValueError, match="symbolic link"):
        Store(folder, writer=True)
    assert (tmp_path / "mine").read_text() == "mine"
    (folder / "lock").unlink()
    with Store(folder, writer=True) as store:
        assert contents(store) == kept


def test_files_that_are_none_of_the_stores_stay(sound):
    folder, _ = sound
    for name in ("notes.part", "thesis.tex.part"):
        (folder / name).write_text("mine")
    (folder / "config.json.part").write_text("unfinished")
    (folder / "snapshot-x.part").mkdir()
    (folder / "snapshot-x.safetensors").write_text("mine")
    (folder / "snapshot-000000000002.safetensors").mkdir()
    with Store(folder, writer=True) as store:
        store.compact()
    assert (folder / "snapshot-x.safetensors").read_text() == "mine"
    assert (folder / "notes.part").read_text() == (folder / "thesis.tex.part").read_text() == "mine"
    assert not (folder / "config.json.part").exists()
