"""What reaches a terminal: nothing that steers it, what opening a store had to repair, and JSON that any program reads."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys

import pytest

from memoir_fast.cli.app import main
from memoir_fast.cli.terminal import complain, say, shown, write_json
from memoir_fast.store import Store
from memoir_fast.store.log import segments
from tests.support.forging import without_ledger
from tests.support.stores import add, new_store

EVIL = "a\x1b[2J\x07b\u202ec\x9b31m\ud800\u2066\x7f"


def test_everything_said_is_harmless(capsys):
    options = argparse.Namespace(command="ask", json=None)
    say(options, EVIL + "\nnext line")
    complain(options, EVIL)
    out, err = capsys.readouterr()
    assert out.split("\n")[1] == "next line" and "\\x1b[2J" in out
    for text in (out, err, shown(EVIL + "\n", 80) + "\n"):
        assert text.replace("\n", "").isprintable()


def test_json_is_printable_and_whole(capsys, monkeypatch, tmp_path):
    value = {"é": [EVIL, "漢字 ☃ 😀"], "n": {"e": 1}}
    write_json(argparse.Namespace(json="-"), value)
    out = capsys.readouterr().out
    assert json.loads(out) == value and out.replace("\n", "").isprintable() and "漢字 ☃ 😀" in out
    write_json(argparse.Namespace(json=str(tmp_path / "x.json")), value)
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == value
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8")  # a terminal of the usual kind
    monkeypatch.setattr(sys, "stdout", stream)
    write_json(argparse.Namespace(json="-"), value)


@pytest.fixture
def old_store(tmp_path):
    """A store from before half pairs were refused, and whose texts steer terminals."""
    with new_store(tmp_path / "s") as store:
        add(store, 0, EVIL, prompt=EVIL, author=EVIL, tags=[EVIL], metadata={EVIL: EVIL})
        add(store, 1)
    return tmp_path / "s"


@pytest.mark.parametrize(
    "command", [["log", "--all"], ["show", "0"], ["info"], ["delete", "0"], ["rollback", "0", "--yes"], ["verify"]]
)
def test_every_command_prints_any_store(old_store, command, capsys):
    assert main([*command, "--store", str(old_store), "--json", "-"]) == 0
    out, err = capsys.readouterr()
    json.loads(out)
    assert (out + err).replace("\n", "").isprintable()


@pytest.mark.parametrize("command", [["log"], ["show", "0"], ["info"], ["delete", "1"], ["rollback", "0", "--yes"], ["verify"], ["compact"],
                                     ["export", "--to", "OUT"], ["merge", "SELF"]])  # fmt: skip
def test_every_command_says_what_opening_found(old_store, command, capsys, tmp_path):
    path = segments(old_store)[-1][1]
    without_ledger(old_store)
    os.truncate(path, path.stat().st_size - 5)
    with new_store(tmp_path / "other"):
        pass
    command = [
        {"OUT": str(tmp_path / "out.mfb"), "SELF": str(tmp_path / "other"), "1": "0"}.get(word, word)
        for word in command
    ]
    assert main([*command, "--store", str(old_store)]) == 0
    err = capsys.readouterr().err
    assert "ends within record 2" in err or "an unfinished record at its end was cut off" in err


def test_a_refused_lock_is_told_harmlessly(old_store, capsys):
    with Store(old_store, writer=True):
        (old_store / "writer.json").write_text(
            json.dumps({"user": "\x1b]0;x\x07", "host": "\u202e", "pid": 1, "since": "now"})
        )
        assert main(["delete", "0", "--store", str(old_store)]) == 2
    assert capsys.readouterr().err.replace("\n", "").isprintable()
