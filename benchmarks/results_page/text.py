"""Tables, numbers and where they come from, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from benchmarks.rows import Row

NOT_TRACED = "**not traced**"


def number(value) -> str:
    """Three decimals below a hundred, four digits above; a perplexity's median; nothing for None."""
    if isinstance(value, dict):
        value = value["median"]
    return "" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def spread(values: list[float]) -> str:
    """The mean, and the range where there is one."""
    middle = f"{statistics.mean(values):.3f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3f}-{max(values):.3f})"


def table(head: list[str], lines: list[list[str]], drop_empty: bool = False) -> list[str]:
    """A Markdown table and an empty line; with `drop_empty` without the columns that say nothing."""
    if drop_empty:
        used = [i for i in range(len(head)) if any(line[i] for line in lines)]
        head, lines = [head[i] for i in used], [[line[i] for i in used] for line in lines]
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(line) + " |" for line in lines),
        "",
    ]


def source(row: Row) -> str:
    """What was measured, when and on what; says so where no clean commit names it."""
    commit = f"commit `{row.commit}`" if row.commit else "no commit"
    on = row.environment
    threads = f"{on['threads']} thread" + ("s" if on["threads"] != 1 else "")
    machine = on.get("gpu") or f"{on['cpu']} ({on['simd']}), {threads}"
    return f"{commit}{'' if row.traced else f' ({NOT_TRACED})'}, {row.date}, {machine}"


def sources(found: Iterable[Row]) -> str:
    """The sources of several runs, each said once."""
    return "; ".join(dict.fromkeys(source(row) for row in found))


def source_line(*found: Row) -> list[str]:
    """A line under a section's title."""
    files = ", ".join(f"`{name}.jsonl`" for name in dict.fromkeys(row.benchmark for row in found))
    return [f"Source: {files}; {sources(found)}.", ""]


def optimised(settings: dict) -> str:
    """Which of the two plain optimisations a row's published editor and its `exact` made: the rows from before `recipe` made the other."""
    if settings.get("recipe") == "published":
        return 'optimised like the authors\' code (`recipe="published"`)'
    return 'with losses divided by the n target tokens, while the authors\' code divides by n + 1 and stops a step later (`write="sgd"`)'
