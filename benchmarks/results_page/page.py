"""The page: its parts in their order."""

from __future__ import annotations

from pathlib import Path

from benchmarks.results_page import big, chat, gpu, quality, routing, speed, stores
from benchmarks.results_page.text import NOT_TRACED


def made(results: Path) -> str:
    """The page's Markdown, from the rows in a folder."""
    head = [
        "# Results", "",
        "<!-- Made by `python -m benchmarks.results_page` from the rows in benchmarks/results: change those, not this page. -->", "",
        "Every figure below comes from a row of `benchmarks/results/*.jsonl`. Each row is one run, with its settings, versions and machine; the page "
        f"shows the latest run of each kind. A run marked {NOT_TRACED} names no commit, or one with uncommitted changes: its "
        "figures cannot be traced to a state of the code. `benchmarks/README.md` says which script answers which question and how a run is "
        "recorded. Unless stated otherwise, the model is SmolLM2-135M; the CPU is shared with other work. The [glossary](glossary.md) explains the "
        "terms. *Published* means the method of the MEMOIR paper's authors.", "",
    ]  # fmt: skip
    tail = ["## Every stream of edits", "", "Each run has a name; the first table gives its settings and source.", ""]
    parts = [
        *head,
        *quality.sections(results),
        *routing.sections(results),
        *chat.sections(results),
        *stores.sections(results),
        *speed.sections(results),
        *big.sections(results),
        *gpu.sections(results),
        *tail,
        *quality.details(results),
    ]
    return "\n".join(parts).rstrip() + "\n"
