"""The page: its parts in their order."""

from __future__ import annotations

from pathlib import Path

from benchmarks.results_page import chat, gpu, quality, routing, speed
from benchmarks.results_page.text import NOT_TRACED


def made(results: Path) -> str:
    """The page's Markdown, from the rows in a folder."""
    head = [
        "# Results", "",
        "<!-- Made by `python -m benchmarks.results_page` from the rows in benchmarks/results: change those, not this page. -->", "",
        "Every figure below comes from a row of `benchmarks/results/*.jsonl`: one line a run, with its settings, versions and machine; of runs "
        f"of one kind the latest is shown. A run marked {NOT_TRACED} names no commit, or one with uncommitted changes: its "
        "figures cannot be traced to a state of the code. `benchmarks/README.md` says which script answers which question and how a run is "
        "recorded. The model is SmolLM2-135M where nothing else is said; the CPU is a shared one.", "",
    ]  # fmt: skip
    tail = ["## Every stream of edits", "", "Each run by its name; the first table says where each comes from.", ""]
    parts = [
        *head,
        *quality.sections(results),
        *routing.sections(results),
        *chat.sections(results),
        *speed.sections(results),
        *gpu.sections(results),
        *tail,
        *quality.details(results),
    ]
    return "\n".join(parts).rstrip() + "\n"
