"""Rows: what is refused among the committed ones, and that nothing is lost on the way to disk and back."""

from __future__ import annotations

import argparse
import json
import subprocess

import pytest

from benchmarks import harness, rows


@pytest.fixture
def checkout(tmp_path):
    """A git repository with one commit."""
    root = tmp_path / "checkout"
    (root / "memoir_fast").mkdir(parents=True)
    (root / "memoir_fast" / "model.py").write_text("first\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "-m", "first")
    return root


def git(root, *args: str) -> str:
    return subprocess.run(["git", "-C", str(root), *args], check=True, capture_output=True, text=True).stdout.strip()


def options(**given) -> argparse.Namespace:
    return argparse.Namespace(**{"json": None, "record": False, "name": None} | given)


def test_a_clean_commit_is_recorded(checkout):
    results = checkout / "benchmarks" / "results"
    for speed in (1.5, 1.75):  # the first row's own change does not make the tree dirty
        recorder = harness.Recorder("ops", options(record=True), checkout, results)
        recorder.write({"runs": 3}, {"speed": speed})
    first, second = rows.read("ops", results)
    assert first.commit == git(checkout, "rev-parse", "--short=12", "HEAD") and first.traced
    assert (first.settings, first.result, second.result) == ({"runs": 3}, {"speed": 1.5}, {"speed": 1.75})
    assert first.environment["torch"] and first.date and len((results / "ops.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("path", ["memoir_fast/model.py", "memoir_fast/new.py"])
def test_changes_are_refused_before_anything_is_measured(checkout, tmp_path, path, capsys):
    (checkout / path).write_text("changed\n")
    results = checkout / "benchmarks" / "results"
    with pytest.raises(harness.NotTraced, match=rf"{path}.*Commit or stash.*--json FILE"):
        harness.Recorder("ops", options(record=True), checkout, results)
    assert not results.exists()
    harness.Recorder("ops", options(json=str(tmp_path / "out.json")), checkout, results).write({}, {"speed": 1})
    assert "uncommitted" in capsys.readouterr().out
    row = rows.Row(**json.loads((tmp_path / "out.json").read_text()))
    assert not row.traced and row.commit.endswith("+changes") and not results.exists()


def test_no_git_is_refused(tmp_path):
    assert harness.commit_of(tmp_path) == (None, [])
    with pytest.raises(harness.NotTraced, match=r"no git commit.*clone"):
        harness.Recorder("ops", options(record=True), tmp_path, tmp_path / "results")


def test_json_among_the_committed_rows_is_refused(checkout):
    results = checkout / "benchmarks" / "results"
    with pytest.raises(harness.NotTraced, match="--record"):
        harness.Recorder("ops", options(json=str(results / "ops.jsonl")), checkout, results)


def test_series_are_kept_beside_and_never_replaced(checkout):
    results = checkout / "benchmarks" / "results"
    series = {"seconds": [0.25, 1 / 3], "steps": [3, 4]}
    harness.Recorder("retention", options(record=True, name="a"), checkout, results).write({}, {"mean": 3.5}, series)
    (row,) = rows.read("retention", results)
    assert row.series == "series/retention-a.json.gz" and rows.read_series(row, results) == series
    assert "seconds" not in row.line()
    with pytest.raises(harness.NotTraced, match="another name"):
        harness.Recorder("retention", options(record=True, name="a"), checkout, results)


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "ops.jsonl").write_text('{"benchmark": "ops"}\n')
    with pytest.raises(ValueError, match=r"ops.jsonl, line 1: not a result row"):
        rows.read("ops", tmp_path)
    with pytest.raises(ValueError, match="traced is True"):
        rows.Row("ops", "2026-01-01", "abc+changes", True, {}, {}, {})
    assert rows.read("nothing", tmp_path) == []


def test_every_committed_row_reads_and_has_its_series():
    files = sorted(rows.RESULTS.glob("*.jsonl"))
    assert len(files) >= 18
    found = [row for path in files for row in rows.read(path.stem)]
    assert len(found) >= 58 and all(row.environment["torch"] and row.date for row in found)
    named = [row.series for row in found if row.series]
    assert sorted(named) == sorted(f"series/{path.name}" for path in (rows.RESULTS / "series").iterdir())
    for row in found:
        if row.series:
            last = row.result["checkpoints"][-1] if "checkpoints" in row.result else row.result
            assert len(rows.read_series(row)["steps"]) == last["edits"]
