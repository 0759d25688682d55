"""The generated reference tells of every command, option and setting, and the README stays short."""

from __future__ import annotations

import re
import runpy
from dataclasses import fields
from pathlib import Path

import pytest

from memoir_fast import MemoirConfig
from memoir_fast.cli.app import main

ROOT = Path(__file__).parents[2]
HOOKS = runpy.run_path(str(ROOT / "docs" / "hooks.py"))


def test_every_setting_is_told_of():
    rows = [line for line in HOOKS["config"]().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [field.name for field in fields(MemoirConfig)]
    assert all(len(row.split("|")[-2].strip()) > 10 for row in rows)


def test_every_command_is_told_of():
    text = HOOKS["command_line"]()
    commands = (
        "edit ask route check chat eval calibrate tune demo info log show search tags diff delete restore disable enable tag rollback compact "
        "verify export import merge serve edit-server follow"
    )
    for command in commands.split():
        assert f"\n## {command}\n" in f"\n{text}"
    assert "`--forget-before ID`" in text and "| option |" in text


def test_a_default_is_told_once(capsys):
    rows = [line for line in HOOKS["command_line"]().splitlines() if line.startswith("| `")]
    assert len(rows) > 100 and not [row for row in rows if row.count("default:") > 1]
    with pytest.raises(SystemExit):
        main(["edit", "--help"])
    assert " ".join(capsys.readouterr().out.split()).count("(default: --verify) (default") == 0


def test_every_public_name_is_on_the_api_page():
    import memoir_fast

    told = HOOKS["api"]() + (ROOT / "docs" / "reference" / "errors.md").read_text("utf-8")
    for name in set(memoir_fast.__all__) - {"__version__"}:
        assert name in told or name in ("EditError", "StoreError", "ConflictError")


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 130


def test_every_environment_variable_is_told_of():
    sources = [*(ROOT / "memoir_fast").rglob("*.py"), *(ROOT / "csrc").rglob("*.cpp"), ROOT / "setup.py"]
    read = {name for path in sources for name in re.findall(r"MEMOIR_FAST_[A-Z_]*[A-Z]", path.read_text("utf-8"))}
    told = {
        line
        for line in (ROOT / "docs/reference/config.md").read_text("utf-8").splitlines()
        if line.startswith("| `MEMOIR")
    }
    assert read - set(re.findall(r"MEMOIR_FAST_[A-Z_]+", "\n".join(told))) == set() and len(read) > 5


def test_the_tests_that_the_page_on_trust_names_are_there():
    rows = [
        line
        for line in (ROOT / "docs/concepts/trust.md").read_text("utf-8").splitlines()
        if "`" in line and line.count("|") == 5
    ]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+/(?:test_[a-z_]+\.py)?)`", row.split("|")[3])}
    assert len(named) > 12 and [name for name in sorted(named) if not (ROOT / "tests" / name).exists()] == []
