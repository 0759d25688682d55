"""The queue's file: what is acknowledged stays, and only this library's own file is opened."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from memoir_fast.serving.editing.changes import BEGINS, Change
from memoir_fast.serving.editing.facts import Fact
from memoir_fast.serving.editing.queue import FAILED, MADE, QUEUED, REJECTED, WAITING, Act, Queue
from memoir_fast.serving.editing.refused import Refused

CHANGE = Change.of("disable", 3, "why")
BACK = Change("rollback", [[3, "active"], [4, "deleted"]], "3", False, "0123456789abcdef", "a bad batch")
GOLDEN = Path(__file__).parents[2] / "golden"
ONE, TWO = Fact("p", "t", ["r"], ["n"], "s", "k", "a", ["x"], {"m": [1, None, "ü"]}), Fact("q", "u")


def _opened(folder, store="a store"):
    return Queue(folder / "q.sqlite", store)


def test_all_is_there_after_it_is_opened_again(tmp_path):
    queue = _opened(tmp_path)
    first, new = queue.add(ONE, "paul", False, "once", 9)
    second, _ = queue.add(TWO, "anna", True, None, 9)
    assert new and (first.status, second.status, second.decided_by) == (WAITING, QUEUED, "anna")
    queue.decide(first.id, "anna", True, "fine")
    third, _ = queue.add(CHANGE, "paul", False, None, 9)
    queue.note("anna", "disable", [3], 7, third.id, "why")
    queue.close(), queue.close()
    queue = _opened(tmp_path)
    assert (tmp_path / "q.sqlite").stat().st_mode & 0o777 == 0o600
    assert queue.add(ONE, "paul", False, "once", 9)[1] is False
    assert [one.wish for one in queue.newest((), None, 9)] == [CHANGE, TWO, ONE] and queue.newest((), 2, 9)[0].id == 1
    turns = []
    while (one := queue.next()) is not None:
        turns.append(one.id)
        queue.finish(one.id, one.id * 10, {"loss": 0.5})
    assert turns == [2, 1]  # in the order of their approval
    assert (queue.get(1).status, queue.get(1).edit, queue.get(1).result, queue.get(1).reason) == (
        MADE,
        10,
        {"loss": 0.5},
        "fine",
    )
    [act] = queue.acts()
    assert (act.who, act.what, act.edits, act.seq, act.proposal, act.reason) == ("anna", "disable", [3], 7, 3, "why")
    assert queue.done(3, 7) == act and queue.done(1, 7) is None
    assert queue.done(3, 6) is None and queue.acts() == []  # the store has no such record
    queue.close()


def test_approved_changes_come_before_approved_edits(tmp_path):
    queue = _opened(tmp_path)
    wishes = [Fact('{"change": "disable"}', "t"), CHANGE, BACK, TWO]
    for wish in wishes:
        queue.add(wish, "anna", True, None, 9)
    assert CHANGE.to_json().startswith(BEGINS) and BACK.to_json().startswith(BEGINS)
    made = []
    while (one := queue.next()) is not None:
        made.append(wishes.index(one.wish))
        queue.finish(one.id, None, None)
    assert made == [1, 2, 0, 3]
    queue.close()


def test_only_what_waits_is_decided(tmp_path):
    queue = _opened(tmp_path)
    number = queue.add(ONE, "paul", False, None, 9)[0].id
    assert queue.decide(number, "anna", False, "no").status == REJECTED
    for approved in (True, False):
        with pytest.raises(Refused, match="it does not wait"):
            queue.decide(number, "anna", approved)
    assert (
        queue.next() is None
        and queue.finish(queue.add(TWO, "anna", True, None, 9)[0].id, None, None, "why", failed=True).status == FAILED
    )
    with pytest.raises(Refused, match="there is no proposal 99"):
        queue.get(99)
    queue.close()


def test_what_is_not_taken_in(tmp_path):
    queue = _opened(tmp_path)
    queue.add(ONE, "paul", False, "once", 1)
    with pytest.raises(Refused, match="used for another request"):
        queue.add(TWO, "paul", False, "once", 1)
    with pytest.raises(Refused, match="the queue is full"):
        queue.add(TWO, "paul", False, "twice", 1)
    assert queue.add(ONE, "paul", False, "once", 1)[1] is False  # known, and so not refused
    queue.close()


def _another_store(path):
    Queue(path, "another").close()


def _a_table_more(path):
    Queue(path, "a store").close()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TRIGGER t AFTER INSERT ON acts BEGIN DELETE FROM proposals; END")


def _newer(path):
    Queue(path, "a store").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE about SET version = 3")


def _newer_tables(path):
    """The tables of version 1, which say that they are of another one."""
    with sqlite3.connect(path) as connection:
        connection.executescript((GOLDEN / "queue-v1.sql").read_text())
        connection.execute("UPDATE about SET version = 3")


def _changed(path, statement):
    queue = Queue(path, "a store")
    queue.add(ONE, "paul", False, None, 9)
    queue.close()
    with sqlite3.connect(path) as connection:
        connection.execute(statement)


def _damaged(path):
    queue = Queue(path, "a store")
    for number in range(200):
        queue.add(Fact("p" * 500, str(number)), "paul", False, None, 999)
    queue.close()
    data = bytearray(path.read_bytes())
    for at in range(8192, len(data) - 2000, 4096):
        data[at : at + 2000] = b"\xff" * 2000
    path.write_bytes(data)


@pytest.mark.parametrize("spoil, says", [
    (_another_store, "belongs to another store"), (_a_table_more, "not those that this library makes"), (_newer, "has version 3"), (_newer_tables, "not those that this library makes"), (_damaged, "damaged"),
    (lambda path: path.write_bytes(b"no database" * 500), "damaged"),
    *((lambda path, values=values: _changed(path, f"UPDATE proposals SET fact = '{values}'"), "a proposal in it is damaged") for values in (
        '[]', '7', '{"change": "disable"}', '{"change": "explode", "edits": [[3, "disabled"]]}', '{"change": "disable", "edits": [3]}',
        '{"change": "disable", "edits": [[3, "gone"]]}', '{"change": "disable", "edits": []}', '{"change": "disable", "edits": [[true, "disabled"]]}',
        '{"change": "disable", "edits": [[3, "disabled"], [4, "disabled"]]}', '{"change": "rollback", "edits": [[3, "deleted"]]}', '{"change": [], "edits": [[3, "disabled"]]}',
        '{"change": "rollback", "edits": [[3, "deleted"]], "to": "1", "empty": 1}', '{"change": "disable", "edits": [[3, "disabled"]], "reason": 7}')),
    (lambda path: _changed(path, "UPDATE proposals SET fact = '{'"), "a proposal in it is damaged"),
    (lambda path: _changed(path, "UPDATE proposals SET fact = '{\"prompt\": \"p\"}'"), "a proposal in it is damaged"),
    (lambda path: _changed(path, "UPDATE proposals SET fact = replace(fact, '\"t\"', '7')"), "a proposal in it is damaged"), (lambda path: path.symlink_to("elsewhere"), "symbolic link"),
    (lambda path: os.mkfifo(path), "not a regular file"), (lambda path: path.with_name("q.sqlite-wal").symlink_to("elsewhere"), "symbolic link"),
    (lambda path: path.with_name("q.sqlite-journal").write_bytes(b""), "move it away"),
])  # fmt: skip
def test_another_file_is_refused(tmp_path, spoil, says):
    spoil(tmp_path / "q.sqlite")
    with pytest.raises(ValueError, match=says):
        _opened(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_takes_nothing_in(tmp_path):
    queue = _opened(tmp_path)
    queue.add(ONE, "paul", False, None, 9)
    queue._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(Refused, match="nothing was taken in") as caught:
        for _ in range(99):
            queue.add(Fact("p" * 5000, "t"), "paul", False, None, 999)
    assert caught.value.status == 503 and queue.get(1).wish == ONE
    queue.close()


def _told(queue):
    return {one.id: (one.status, one.proposed_by, one.decided_by, one.edit, one.reason) for one in queue.newest((), None, 9)}  # fmt: skip


def test_a_file_of_version_1_is_taken_over(tmp_path):
    """As docs/formats.md says; the dump was made when the format was."""
    with sqlite3.connect(tmp_path / "q.sqlite") as connection:
        connection.executescript((GOLDEN / "queue-v1.sql").read_text())
    for _ in range(2):  # as it was, and as version 2
        queue = _opened(tmp_path)
        assert queue.name == "0123456789abcdef"
        assert _told(queue) == {
            1: ("made", "paul", "anna", 4, "fine"),
            2: ("queued", "anna", "anna", None, ""),
            3: ("waiting", "paul", None, None, ""),
        }
        assert queue.get(1).wish == ONE and queue.get(1).result == {"loss": 0.5} and queue.next() == queue.get(2)
        assert queue.acts() == [Act("2026-11-26T09:32:52.503899+00:00", "anna", "disable", [3], 7)]
        assert queue.add(TWO, "paul", False, "twice", 9)[1] is False
        queue.close()
        with sqlite3.connect(tmp_path / "q.sqlite") as connection:
            assert connection.execute("SELECT version FROM about").fetchall() == [(2,)]


def test_a_file_of_version_2_stays_readable(tmp_path):
    with sqlite3.connect(tmp_path / "q.sqlite") as connection:
        connection.executescript((GOLDEN / "queue-v2.sql").read_text())
    queue = _opened(tmp_path)
    assert queue.name == "0123456789abcdef"
    assert _told(queue) == {
        1: ("made", "paul", "anna", 4, "fine"),
        2: ("made", "paul", "anna", 3, "looked at"),
        3: ("waiting", "paul", None, None, ""),
    }
    assert [queue.get(number).wish for number in (1, 2, 3)] == [ONE, CHANGE, BACK]
    assert queue.get(2).result == {"seq": 7} and queue.next() is None
    [act] = queue.acts()
    assert act == queue.done(2, 7) and (act.who, act.what, act.edits, act.seq, act.proposal, act.reason) == ("anna", "disable", [3], 7, 2, "why")  # fmt: skip
    assert queue.add(BACK, "paul", False, "back", 9)[1] is False
    queue.close()
