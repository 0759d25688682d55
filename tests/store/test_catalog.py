"""A store looked at without its memory: the same edits as a `Store` says, no torch, and every damage of its log told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from memoir_fast.store import Catalog, Store, export_bundle, import_bundle, merge
from memoir_fast.store.differences import between_states, between_stores
from memoir_fast.store.log import segments
from tests.support.forging import without_ledger
from tests.support.stores import add, new_store


def _changed(folder) -> None:
    """A store with an edit of every status, tags that were changed, and a snapshot."""
    with new_store(folder) as store:
        for number in range(5):
            add(
                store,
                number,
                created=f"2026-01-0{number + 1}T00:00:00+00:00",
                written=f"2026-01-0{number + 1}T00:00:00+00:00",
            )
        store.disable(1), store.delete(2), store.tag(3, ["y", "z"])
        add(store, 5, supersedes=[4])
        store.compact()
        store.delete(0), store.restore(0)


@pytest.fixture
def changed(tmp_path):
    _changed(tmp_path / "s")
    return tmp_path / "s"


def test_it_says_what_the_store_says(changed):
    catalog = Catalog(changed)
    with Store(changed) as store:
        assert catalog.rows() == [store.state.row(edit) for edit in store.state.entries]
        assert catalog.state.active() == store.state.active() and catalog.state.seq == store.state.seq
        assert catalog.scale == store.memory.scale and catalog.manifest == store.manifest
    assert [row["status"] for row in catalog.rows()] == [
        "active",
        "disabled",
        "deleted",
        "active",
        "superseded",
        "active",
    ]
    assert catalog.row(3)["tags"] == ["y", "z"] and catalog.report == []
    with pytest.raises(ValueError, match="there is no edit 6"):
        catalog.row(6)


def test_it_reads_while_another_one_writes_and_changes_nothing(changed):
    with Store(changed, writer=True):
        before = {path.name: path.read_bytes() for path in changed.iterdir()}
        assert len(Catalog(changed).rows()) == 6
        assert {path.name: path.read_bytes() for path in changed.iterdir()} == before


def test_a_cut_log_is_told_and_a_lost_segment_refused(changed):
    path = segments(changed)[-1][1]
    without_ledger(changed)
    os.truncate(path, path.stat().st_size - 5)
    catalog = Catalog(changed)
    assert "ends within record" in catalog.report[0] and catalog.row(0)["status"] == "deleted"
    segments(changed)[0][1].unlink()
    for opened in (Catalog, Store):
        with pytest.raises(ValueError, match="a segment of the log is missing"):
            opened(changed)
    with pytest.raises(ValueError, match="no store in this folder"):
        Catalog(changed / "nowhere")


def test_a_store_without_its_log_and_its_ledger_is_not_an_empty_one(changed):
    seq = max(snapshot.seq for snapshot in Catalog(changed).manifest.snapshots)
    without_ledger(changed)
    for _, path in segments(changed):
        path.unlink()
    for opened in (Catalog, Store):
        with pytest.raises(ValueError, match=f"ends at record 0, before the snapshot of {seq}"):
            opened(changed)


def test_a_damaged_snapshot_does_not_hide_that_the_log_lost_records(changed):
    """The memory could be made from what is left of the log, but edits would be missing in silence."""
    kept = Catalog(changed).manifest
    without_ledger(changed)
    for snapshot in kept.snapshots:
        os.truncate(changed / snapshot.file, 10)
    seq = max(snapshot.seq for snapshot in kept.snapshots)
    live, first = segments(changed)[-1][1], segments(changed)[0][1]
    live.unlink()
    os.truncate(first, first.stat().st_size - 5)
    for opened in (Catalog, Store):
        with pytest.raises(ValueError, match=f"before the snapshot of {seq}"):
            opened(changed)


def test_acknowledged_records_that_are_missing_are_refused(changed):
    segments(changed)[-1][1].unlink()
    with pytest.raises(ValueError, match="records were acknowledged"):
        Catalog(changed)


def test_points_in_time(changed):
    catalog = Catalog(changed)
    assert catalog.at(2).statuses == {0: "active", 1: "active", 2: "active"} and catalog.at("2025-01-01").statuses == {}
    with pytest.raises(ValueError, match="there is no edit 9"):
        catalog.at(9)
    rows = between_states(catalog.at(4), catalog.state)
    told = {row["edit"]: (row["before"], row["after"], row["tags_before"], row["tags_after"]) for row in rows}
    assert told == {
        1: ("active", "disabled", ["x"], ["x"]),
        2: ("active", "deleted", ["x"], ["x"]),
        3: ("active", "active", ["x"], ["y", "z"]),
        4: ("active", "superseded", ["x"], ["x"]),
        5: (None, "active", [], ["x"]),
    }
    assert rows[-1]["prompt"] == "p5" and between_states(catalog.state, catalog.state) == []


def test_a_rollback_does_what_the_catalogue_foretells(changed):
    from memoir_fast.journal.past import changes_to

    catalog = Catalog(changed)
    foretold = changes_to(catalog.state, catalog.at(1))
    with Store(changed, writer=True) as store:
        assert store.rollback(1) == [edit for edit, _ in foretold]
        assert all(store.state.statuses[edit] == status for edit, status in foretold)


def test_two_stores(changed, tmp_path):
    with Store(changed) as store:
        export_bundle(store, tmp_path / "bundle")
    with import_bundle(tmp_path / "bundle", tmp_path / "copy") as copy:
        assert between_stores(Catalog(changed), Catalog(tmp_path / "copy")) == []
        copy.enable(1), copy.tag(0, [])
        add(copy, 7)
    rows = between_stores(Catalog(changed), Catalog(tmp_path / "copy"))
    assert [(row["edit"], row["other"], row["before"], row["after"]) for row in rows] == [
        (0, 0, "active", "active"),
        (1, 1, "disabled", "active"),
        (None, 6, None, "active"),
    ]
    back = between_stores(Catalog(tmp_path / "copy"), Catalog(changed))
    assert (6, None, "active", None) in [(row["edit"], row["other"], row["before"], row["after"]) for row in back]


def test_a_merged_edit_is_the_same_edit(tmp_path):
    with new_store(tmp_path / "a") as one, new_store(tmp_path / "b") as other:
        add(one, 0), add(other, 1), add(other, 2)
        merge(one, other)
    rows = between_stores(Catalog(tmp_path / "a"), Catalog(tmp_path / "b"))
    assert [(row["edit"], row["other"]) for row in rows] == [(0, None)]


_NOT_NEEDED = {"torch", "transformers", "faiss", "safetensors", "sklearn", "scipy"}


@pytest.mark.parametrize(
    ("commands", "loaded"),
    [
        (["info", "log --all", "show 3", "tags", "search p1", "diff 0 now", "rollback 3 --dry-run"], set()),
        (["verify", "delete 0", "tag 1 --add b", "rollback 3 --yes", "compact"], {"torch", "safetensors"}),
    ],
)
def test_commands_load_only_what_they_need(changed, commands, loaded):
    """In a process of its own, where nothing is loaded yet."""
    lines = [f"assert main({[*command.split(), '--store', str(changed)]!r}) == 0" for command in commands]
    code = (
        "import sys\nfrom memoir_fast.cli.app import main\n"
        + "\n".join(lines)
        + "\nprint(*{m.split('.')[0] for m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = set(done.stdout.splitlines()[-1].split())
    assert "memoir_fast" in names and names & _NOT_NEEDED == loaded


def test_a_copied_folder_is_the_same_store(changed, tmp_path):
    shutil.copytree(changed, tmp_path / "backup")
    with Store(changed, writer=True) as store:
        store.delete(5)
    rows = between_stores(Catalog(tmp_path / "backup"), Catalog(changed))
    assert {row["edit"]: (row["before"], row["after"]) for row in rows} == {
        4: ("superseded", "active"),
        5: ("active", "deleted"),
    }
