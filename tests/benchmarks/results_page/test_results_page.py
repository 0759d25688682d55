"""The committed page and plots are what the generator makes of the committed rows, and say where figures come from."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks import rows
from benchmarks.harness import ROOT
from benchmarks.results_page import page, plots, routing
from benchmarks.results_page import streams as of

DOCS = ROOT / "docs"


def test_the_page_is_made_of_the_rows():
    again = "run `python -m benchmarks.results_page` and commit what it writes"
    assert (DOCS / "results.md").read_text("utf-8") == page.made(rows.RESULTS), again
    pictures = set(re.findall(r"\(images/(\w+)\.svg\)", (DOCS / "results.md").read_text()))
    shown = {name: data for name, collect in plots.PLOTS.items() if (data := collect(rows.RESULTS))}
    assert pictures == set(shown)
    for name, data in shown.items():
        drawn = (DOCS / "images" / f"{name}.svg").read_text()
        assert plots.digest(name, data) in drawn, f"{name}.svg: {again}"


def test_every_run_is_on_the_page_and_untraced_ones_say_so():
    text = (DOCS / "results.md").read_text()
    for path in rows.RESULTS.glob("*.jsonl"):
        if path.stem in of.BENCHMARKS:
            latest = [row for row in of.read(rows.RESULTS) if row.benchmark == path.stem]
            assert latest and all(f"| {row.name} |" in text for row in latest)
        else:
            assert f"`{path.stem}.jsonl`" in text or path.stem == "long_edits"
    for line in text.splitlines():
        if re.search(r"no commit|\+changes", line) and not line.startswith("Every figure"):
            assert "**not traced**" in line, line


def test_a_later_traced_run_takes_the_place_of_the_one_before(tmp_path):
    before = of.pick(of.read(rows.RESULTS), of.ZSRE_100)
    assert [row.settings["seed"] for row in before] == [0, 1, 2]
    (tmp_path / "retention.jsonl").write_bytes((rows.RESULTS / "retention.jsonl").read_bytes())
    fields = json.loads(before[1].line()) | {
        "commit": "abcdef123456",
        "traced": True,
        "name": "again",
        "date": "2027-01-01",
    }
    rows.append(rows.Row(**fields), tmp_path)
    after = of.pick(of.read(tmp_path), of.ZSRE_100)
    assert [row.commit for row in after] == [before[0].commit, "abcdef123456", before[2].commit]
    text = page.made(tmp_path)
    assert "commit `abcdef123456`, 2027-01-01" in text and "no commit (**not traced**), 2026-11-25" in text


def test_plots_are_the_same_each_time(tmp_path):
    pytest.importorskip("matplotlib")
    for folder in ("a", "b"):
        plots.draw_all(rows.RESULTS, tmp_path / folder)
    drawn = sorted(path.stem for path in (tmp_path / "a").iterdir())
    assert len(drawn) >= 6
    for name in drawn:
        first, second = ((tmp_path / folder / f"{name}.svg").read_bytes() for folder in ("a", "b"))
        assert first == second and len(first) > 5000


def test_each_model_has_its_own_table_of_the_routing(tmp_path):
    """A run of another model or rule does not take the place of the one before; a later run of the same does."""
    row = rows.read("routing")[-1]
    for name, chat, rule, right in (
        ("smollm2", True, "words", 0.111),
        ("gemma", False, "words", 0.222),
        ("gemma", False, "words", 0.333),
        ("smollm2", True, "mask", 0.444),
    ):
        measured = {"demo": {"rephrased": {"right": right, "wrong": 0.0, "prompts": 20}}}
        settings = row.settings | {"model": name, "chat": chat}
        rows.append(rows.Row(**{**vars(row), "settings": settings, "result": {"rules": {rule: measured}}}), tmp_path)
    text = "\n".join(routing.sections(tmp_path))
    assert re.findall(r"### (.*)|right ([0-9.]+)", text) == [("SmolLM2-135M-Instruct, in chats", ""), ("", "0.111"), ("", "0.444"),
                                                              ("Gemma 3 270M, in plain text", ""), ("", "0.333")]  # fmt: skip
