"""What is the user's is one sentence; what is a bug of ours is a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from memoir_fast.cli import catalog_commands, store_commands
from memoir_fast.cli.app import main
from memoir_fast.errors import on_purpose
from memoir_fast.store import Store
from tests.support.stores import add, new_store


@pytest.fixture
def store(tmp_path):
    with new_store(tmp_path / "s") as made:
        add(made, 0), add(made, 1, tags=[])
    return str(tmp_path / "s")


def _raise(error):
    def run(*_, **__):
        raise error

    return run


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("x"), ValueError("of a test's own"), TypeError("x"), AssertionError(), AttributeError("x")])  # fmt: skip
def test_a_bug_shows_where_it_is(store, monkeypatch, capsys, error):
    monkeypatch.setattr(catalog_commands, "looked_at", _raise(error))
    assert main(["log", "--store", store]) == 3
    told = capsys.readouterr().err
    assert "Traceback" in told and "test_errors.py" in told and "this is a bug of memoir_fast" in told


def test_a_call_that_does_not_fit_is_a_bug(store, monkeypatch, capsys):
    monkeypatch.setattr(catalog_commands, "looked_at", lambda: None)  # called with an argument: a TypeError of Python's
    assert main(["log", "--store", store]) == 3 and "Traceback" in capsys.readouterr().err


def test_bad_input_is_one_sentence_and_a_traceback_when_asked_for(store, capsys):
    assert main(["show", "9", "--store", store]) == 2
    told = capsys.readouterr().err
    assert told == f"memoir-fast show: there is no edit 9 in {store}\n"
    assert main(["show", "9", "--store", store, "--debug"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told and told.endswith(f"memoir-fast show: there is no edit 9 in {store}\n")


def test_a_missing_package_is_no_bug(store, monkeypatch, capsys):
    monkeypatch.setattr(
        catalog_commands, "looked_at", _raise(ModuleNotFoundError("No module named 'faiss'", name="faiss"))
    )
    assert main(["log", "--store", store]) == 2 and "Traceback" not in capsys.readouterr().err
    monkeypatch.setattr(
        catalog_commands, "looked_at", _raise(ImportError("cannot import name 'x'", name="memoir_fast.store"))
    )
    assert main(["log", "--store", store]) == 3


def test_a_model_that_cannot_be_loaded_is_no_bug(tmp_path, capsys):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps({"model_type": "no_such_type"}))
    arguments = ["ask", "q", "--model", str(tmp_path / "m"), "--store", str(tmp_path / "s")]
    with new_store(tmp_path / "s"):
        pass
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "no_such_type" in told and "Traceback" not in told


def test_on_purpose_means_raised_by_the_library():
    for call, meant in ((lambda: Store("/nowhere"), True), (lambda: int("x"), False), (lambda: json.loads("{"), False)):
        with pytest.raises(ValueError) as caught:
            call()
        assert on_purpose(caught.value) is meant
    assert not on_purpose(ValueError("never raised"))


def _piped(command: str, unbuffered: bool = False) -> subprocess.CompletedProcess:
    """A command line with `$CLI` in it, in a shell of its own, with the buffers that Python has by itself."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment |= {"PYTHONUNBUFFERED": "1"} if unbuffered else {}
    command = command.replace("$CLI", f"{sys.executable} -m memoir_fast.cli")
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, env=environment, timeout=120
    )


@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_reader_that_leaves_is_no_error(store, unbuffered):
    # `true` is gone long before the command begins. (Unbuffered, argparse itself passes over it from Python 3.11 on.)
    for command in (f"log --store {store}", f"info --json - --store {store}", "--version"):
        done = _piped(f"(sleep 1; $CLI {command}) | true", unbuffered)
        assert done.returncode in ((0, 141) if unbuffered and command == "--version" else (141,))
        assert "rror" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
def test_output_that_cannot_be_written_is_said(store, unbuffered):
    for command in ("log", "info --json -"):
        done = _piped(f"$CLI {command} --store {store} > /dev/full", unbuffered)
        assert done.returncode == 2 and "Exception" not in done.stderr
        assert done.stderr.splitlines()[-1] == f"memoir-fast {command.split()[0]}: [Errno 28] No space left on device"
    done = _piped("$CLI log --help > /dev/full", unbuffered)
    said = (2, "memoir-fast: [Errno 28] No space left on device\n")
    assert (done.returncode, done.stderr) in ([(0, ""), said] if unbuffered else [said])


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), "CUDA out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), "can't allocate memory"),
    ],
)  # fmt: skip
def test_too_little_memory_is_no_bug(store, monkeypatch, capsys, error, says):
    monkeypatch.setattr(catalog_commands, "looked_at", _raise(error))
    assert main(["log", "--store", store]) == 2
    told = capsys.readouterr().err
    assert says in told and "Traceback" not in told and "bug" not in told


_LONG = "9" * 5000


@pytest.mark.parametrize("to", ["--5", _LONG, "-" + _LONG, "²", "５", "-", "99999"])
def test_a_point_that_is_none_is_the_users(store, capsys, to):
    assert main(["rollback", "--store", store, "--dry-run", "--", to]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert main(["diff", "--store", store, "--", to, "now"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "{", "NaN", '{"a": 1e999}', '{"a": "\\ud800"}'])
def test_json_that_is_none_is_refused_by_the_parser(store, capsys, text):
    for option in ("--metadata", "--quantization-config", "--template-options"):
        with pytest.raises(SystemExit) as ended:
            main(["edit", "--store", store, "--prompt", "p", "--target", "t", option, text])
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert option in told and "Traceback" not in told and len(told.splitlines()[-1]) < 600


def test_a_time_option_asks_for_a_time(store, capsys):
    for option in ("--since", "--until"):
        assert main(["search", option, "5", "--store", store]) == 2
        told = capsys.readouterr().err
        assert f"{option[2:]}: '5' is not a time" in told and "edit's id" not in told


# ---- rollback, tag ----


def _statuses(store) -> list[str]:
    with Store(store) as opened:
        return list(opened.state.statuses.values())


def test_a_rollback_shows_what_it_does_and_asks(store, monkeypatch, capsys):
    import io

    for answer, status, left in (
        ("", 2, "active"),
        ("n\n", 1, "active"),
        ("what\n", 1, "active"),
        ("y\n", 0, "deleted"),
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert main(["rollback", "0", "--store", store]) == status
        out, err = capsys.readouterr()
        assert (
            "edit 1: active -> deleted  p1 -> t\n1 edits would change, 1 of them become deleted" in out
            and "[y/N]" in err
        )
        assert _statuses(store) == ["active", left]
    assert main(["rollback", "0", "--store", store]) == 0 and "nothing would change" in capsys.readouterr().out


def test_a_dry_rollback_changes_nothing(store, capsys):
    assert main(["rollback", "0", "--store", store, "--dry-run", "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["id"], row["status"], row["becomes"]) for row in rows] == [(1, "active", "deleted")]
    assert _statuses(store) == ["active", "active"]


def test_a_date_before_the_first_edit_deletes_nothing_unless_it_is_meant(store, capsys):
    assert main(["rollback", "2020-01-01", "--yes", "--store", store]) == 2
    assert "is before the first edit" in capsys.readouterr().err and _statuses(store) == ["active", "active"]
    assert main(["rollback", "2020-01-01", "--yes", "--empty", "--store", store]) == 0
    assert _statuses(store) == ["deleted", "deleted"]


def test_a_store_that_changed_meanwhile_is_not_rolled_back(store, monkeypatch, capsys):
    def another(*_):
        with Store(store, writer=True) as opened:
            opened.tag(0, ["z"])
        return True

    monkeypatch.setattr(store_commands, "agreed", another)
    assert main(["rollback", "0", "--store", store]) == 2
    assert "was changed meanwhile" in capsys.readouterr().err and _statuses(store) == ["active", "active"]


def test_tags_are_added_removed_set_and_cleared(store, capsys):
    def tags(*arguments) -> list[list[str]]:
        assert main(["tag", *arguments, "--store", store, "--json", "-"]) == 0
        return [row["tags"] for row in json.loads(capsys.readouterr().out)]

    assert tags("0", "1", "--add", "x", "y") == [["x", "y"], ["x", "y"]]
    assert tags("0", "--remove", "x", "none") == [["y"]]
    assert tags("1", "--set", "z") == [["z"]] and tags("1", "--clear") == [[]]
    with Store(store) as opened:
        before = opened.state.seq
    assert tags("0", "--add", "y") == [["y"]]  # which it has: no record is written
    with Store(store) as opened:
        assert opened.state.seq == before
    for arguments in (["tag", "0", "9", "--add", "w"], ["delete", "0", "9"]):
        assert main([*arguments, "--store", store]) == 2
        assert "there is no edit 9" in capsys.readouterr().err
    assert _statuses(store) == ["active", "active"]
    assert main(["tags", "--store", store, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "tags": {"y": {"active": 1, "all": 1}},
        "untagged": {"active": 1, "all": 1},
    }


def test_search_and_diff_from_the_command_line(store, tmp_path, capsys):
    assert main(["search", "P1", "--store", store, "--json", "-"]) == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)] == [1]
    assert main(["search", "--tag", "x", "--since", "2026-01-01", "--store", store]) == 0
    assert "p0" in (out := capsys.readouterr().out) and "p1" not in out
    assert main(["search", "--since", "soon", "--store", store]) == 2 and "since: 'soon'" in capsys.readouterr().err
    with new_store(tmp_path / "other") as other:
        add(other, 0)
    assert main(["diff", store, str(tmp_path / "other")]) == 0
    assert "edit 1 / -: active -> not there  p1 -> t\n1 edits differ" in capsys.readouterr().out
    assert main(["diff", "0", "--store", store]) == 0
    assert "edit 1: not there -> active" in capsys.readouterr().out
    assert main(["diff", "0", "1"]) == 2 and "there is no store in the folder 0" in capsys.readouterr().err
    assert (
        main(["diff", "yesterday", "--store", store]) == 2
        and "neither an edit's id nor a time" in capsys.readouterr().err
    )
