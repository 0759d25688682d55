"""The ledger answers for the log only while it knows all of it; otherwise the log is read."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import weakref

import pytest

from memoir_fast.cli.app import main
from memoir_fast.store import Catalog, Store, listing
from memoir_fast.store.ledger import as_stored
from memoir_fast.store.listing import Listing, look
from memoir_fast.store.log import segments
from tests.support.forging import without_ledger
from tests.support.stores import add, new_store


def _everything(store):
    """What can be asked."""
    return (
        store.counts(),
        store.scale,
        store.last(None, True),
        store.last(2, False),
        [store.row(edit) for edit in range(4)],
    )


def _by_ledger(folder) -> bool:
    """Whether the ledger answers, which must then say what the log says."""
    by_log = _everything(Catalog(folder))
    assert _everything(_Kept(folder)) == by_log
    return look(folder, lambda store: isinstance(store, Listing))


class _Kept:
    """Whoever `look` asks, a question at a time."""

    def __init__(self, folder):
        self._folder = folder

    def __getattr__(self, name):
        if name == "scale":
            return look(self._folder, lambda store: store.scale)
        return lambda *values: look(self._folder, lambda store: getattr(store, name)(*values))


@pytest.fixture
def changed(tmp_path):
    """A store with an edit of every status."""
    with new_store(tmp_path / "s") as store:
        for number in range(5):
            add(store, number, metadata={"ticket": number})
        store.disable(1), store.delete(2), store.tag(3, ["y", "z"])
        add(store, 5, supersedes=[4])
    return tmp_path / "s"


def test_it_answers_as_the_log_does_at_every_moment(tmp_path):
    with new_store(tmp_path / "s") as store:
        for number in range(6):
            add(store, number)
            assert number < 3 or _by_ledger(store.folder)
        for change in (lambda: store.delete(1), lambda: store.tag(2, ["t"]), lambda: store.disable(0), store.compact, lambda: store.restore(1),
                       lambda: store.rollback(3), lambda: store.compact(2), lambda: add(store, 7, supersedes=[3])):  # fmt: skip
            change()
            assert _by_ledger(store.folder)
    assert _by_ledger(tmp_path / "s")
    with Store(tmp_path / "s", writer=True):
        assert _by_ledger(tmp_path / "s")
    with Store(tmp_path / "s") as store:
        assert [as_stored(store.state.row(edit)) for edit in store.state.entries] == look(
            tmp_path / "s", lambda one: one.last(None, True)
        )


def test_the_last_edits_are_found_without_a_look_at_the_others(changed):
    """By what SQLite plans to do, which is the same for any number of edits: no sorting."""
    seen = []
    with Listing(changed) as one:
        one._connection.set_trace_callback(seen.append)
        one.last(20, False), one.last(20, True), one.row(3)
    plans = sqlite3.connect(changed / "ledger.sqlite")
    told = " ".join(row[3] for query in seen for row in plans.execute(f"EXPLAIN QUERY PLAN {query}"))
    plans.close()
    assert len(seen) == 3 and "TEMP B-TREE" not in told and "INTEGER PRIMARY KEY" in told


def test_rows_that_are_ahead_of_what_is_on_disk_do_not_answer(changed):
    with Store(changed, writer=True, durability="batch") as store:
        add(store, 6)
        end = segments(changed)[-1][1].stat().st_size
        assert not _by_ledger(changed)
        store.flush()
        assert _by_ledger(changed)
        before = segments(changed)[-1][1].stat().st_size
        add(store, 7)
        # As after a loss of power: the ledger has the row, the log has lost the record.
        shutil.copytree(changed, changed.parent / "lost")
    os.truncate(segments(changed.parent / "lost")[-1][1], before)
    assert end == before and not _by_ledger(changed.parent / "lost")
    assert look(changed.parent / "lost", lambda one: one.counts()) == Catalog(changed.parent / "lost").counts()


def _execute(folder, *statements) -> None:
    connection = sqlite3.connect(folder / "ledger.sqlite", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        without_ledger,
        lambda f: (f / "ledger.sqlite").write_bytes(b"no ledger"),
        lambda f: _execute(f, "UPDATE log SET end = end - 1"),
        lambda f: _execute(f, "UPDATE log SET file = 'log-000000000009.bin'"),
        lambda f: _execute(f, "UPDATE log SET store = 'another'"),
        lambda f: _execute(f, "UPDATE log SET scale = 'x'"),
        lambda f: _execute(f, "UPDATE log SET scale = 2.0"),
        lambda f: _execute(f, "UPDATE edits SET prompt = x'00ff'"),
        lambda f: _execute(f, "UPDATE edits SET tags = '{'"),
        lambda f: _execute(f, "UPDATE edits SET supersedes = '7'"),
        lambda f: _execute(f, "UPDATE edits SET metadata = '[]'"),
        lambda f: _execute(f, "CREATE VIEW v AS SELECT 1"),
        lambda f: _execute(f, "ALTER TABLE log DROP COLUMN scale", "ALTER TABLE log DROP COLUMN end"),
        lambda f: os.symlink(f / "nowhere", f / "ledger.sqlite-journal"),
    ],
)
def test_a_ledger_that_cannot_be_right_is_passed_over(changed, damage):
    expected = Catalog(changed).last(None, True)
    damage(changed)
    assert look(changed, lambda one: one.last(None, True)) == expected


def test_a_reader_verifies_the_ledger_that_answers(changed):
    with Store(changed) as store:
        assert store.verify()["problems"] == []
        _execute(changed, "UPDATE edits SET target = 'another' WHERE id = 3")
        assert store.verify()["problems"] == ["ledger.sqlite does not say what the log says"]
    with Store(changed, writer=True) as store:  # which makes it again
        assert "disagreed with the log" in store.report[0] and store.verify()["problems"] == []
    with Store(changed) as store:
        assert store.verify()["problems"] == []
        _execute(changed, "UPDATE log SET end = end + 1", "UPDATE edits SET target = 'another' WHERE id = 3")
        assert store.verify()["problems"] == []  # nobody reads it, and the next writer makes it again


def test_a_cut_log_and_a_lost_segment_are_told_by_the_log(changed):
    with Store(changed, writer=True) as store:
        store.compact()
        add(store, 8)
    path = segments(changed)[-1][1]
    os.truncate(path, path.stat().st_size - 5)
    with pytest.raises(ValueError, match="which is not the unfinished end of the log"):
        look(changed, lambda one: one.counts())
    segments(changed)[0][1].unlink()
    with pytest.raises(ValueError, match="a segment of the log is missing"):
        look(changed, lambda one: one.counts())
    with pytest.raises(ValueError, match="no store in this folder"):
        look(changed / "nowhere", lambda one: one.counts())


def test_an_unknown_edit_is_said_as_ever(changed, capsys):
    assert main(["show", "9", "--store", str(changed)]) == 2
    assert f"there is no edit 9 in {changed}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["info", "log", "log --all --count 2", "show 3"])
def test_commands_do_not_read_the_log(changed, command, monkeypatch, capsys):
    arguments = [*command.split(), "--store", str(changed), "--json", "-"]
    shown = []
    for how in (True, False):
        with monkeypatch.context() as only:
            name = "Catalog" if how else "Listing"
            only.setattr(
                listing, name, lambda *_, name=name: pytest.fail("the log was read") if name == "Catalog" else _refuse()
            )
            assert main(arguments) == 0
        shown.append(capsys.readouterr())
    assert shown[0] == shown[1]


def _refuse():
    raise sqlite3.DatabaseError("not now")


@pytest.mark.parametrize("opened", [Store, Catalog])
def test_rows_outlive_the_store_that_they_are_of_and_keep_it_from_nothing(changed, opened):
    store = opened(changed)
    rows, gone = store.state.edits, weakref.ref(store.state)
    gc.disable()
    try:
        del store
        assert gone() is None  # at once: the rows hold what they are made from, not the state
    finally:
        gc.enable()
    assert [(edit, row["id"]) for edit, row in rows.items()] == [(edit, edit) for edit in rows] and len(rows) == 3
