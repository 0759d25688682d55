"""The section on big shapes: what editing models of a billion parameters and more takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import rows
from benchmarks.results_page.text import sources, table
from benchmarks.rows import Row


def sections(results: Path) -> list[str]:
    """The latest row of each case and precision; a run has one case or several."""
    found = {
        (case["shape"], case["dtype"], case["place"], row.settings["precision"]): (row, case)
        for row in rows.read("bigmodel", results)
        for case in row.result["rows"]
    }
    if not found:
        return []
    runs, stored = list(found.values()), max(case["stored"] for _, case in found.values())
    return [
        "## Big models", "", f"Source: `bigmodel.jsonl`; {sources(row for row, _ in runs)}.", "",
        "Random weights in the shapes of models that people edit, in a process of its own each (`python -m benchmarks.speed.bigmodel`): edits in SmolLM2's chat "
        "template with the library's defaults. `llama3-8b/8` is cut to 8 of its 32 layers, with the memory in the fourth, so that as many layers lie above it as in "
        "the whole model. Every case was checked: each edit's loss falls below half, and a pass's losses and gradient are autograd's through the model's own code.", "",
        "The floor of a step is the time that its matrix products take by themselves, forward and backward, on the model's own weights, each in the fastest of two "
        "ways. Steps are those after an edit's first. Seconds; the machine did other work too, so step and floor are in processor time. The prefix is what runs once an edit: the layers below the memory, and the "
        "keys and values above it that no step changes.", "",
        *table(["shape", "dtype", "`precision`", "path", "step", "floor", "step / floor", "by the wall's clock: first step", "step", "prefix", "an edit"],
               [_steps(*one) for one in runs]),
        f"Memory in MB above the process with the base model, which has answered once. \"Filled\" is a memory with {stored:,} edits, most of them generated; the plan is "
        "that of `memoir-fast plan`, from the configuration alone. What torch and Python keep of an edit that is gone (code for each shape of a product) is in the "
        "peaks and not in what the filled memory takes. Records are in the dtype that the last column names.", "",
        *table(["shape", "dtype", "base", "attaching, peak", "few edits, peak", "filled", "planned", "off by", "one more edit, peak", "bytes a record", "planned", "off by", "records"],
               [_memory(*one) for one in runs]),
    ]  # fmt: skip


def _steps(row: Row, case: dict[str, Any]) -> list[str]:
    prefix = sorted(case["prefix_s"])[len(case["prefix_s"]) // 2]
    return [_name(case), case["dtype"], row.settings["precision"], _PATHS[case["path"]], f"{case['step_cpu_s']:.3f}", f"{case['floor_cpu_s']:.3f}",
            f"**{case['ratio_cpu']:.2f}**", f"{case['first_step_s']:.3f}", f"{case['step_s']:.3f}", f"{prefix:.2f}", f"{case['edit_s']:.2f}"]  # fmt: skip


def _memory(row: Row, case: dict[str, Any]) -> list[str]:
    plan, off = case["planned"], case["off"]
    return [_name(case), case["dtype"], f"{case['base_mb']:,.0f}", f"{case['attach_peak_mb']:,.0f}", f"{case['edit_peak_mb']:,.0f}", f"{case['stored_mb']:,.0f}",
            f"{plan['stored_mb']:,.0f}", f"{off['stored_mb']:+.0%}", f"{case['stored_edit_peak_mb']:,.0f}", f"{case['record_bytes']:,}", f"{plan['record_bytes']:,}",
            f"{off['record_bytes']:+.0%}", row.settings["record_dtype"]]  # fmt: skip


def _name(case: dict[str, Any]) -> str:
    return case["shape"] + (", layers below on the disk" if case["place"] == "disk" else "")


_PATHS = {"Suffix": "by hand", "Replay": "the model's code"}
