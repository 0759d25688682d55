"""The section on what users of a long stream of edits see, in chats and by free generation."""

from __future__ import annotations

from pathlib import Path

from benchmarks import rows
from benchmarks.results_page.text import number, source, source_line, table

MANY = 100  # steps: more than an edit makes


def sections(results: Path) -> list[str]:
    latest = {
        (row.settings["edits"], row.settings["model"], _questions(row)): row for row in rows.read("chat", results)
    }
    if not latest:
        return _values(results)
    free, forced = [], []
    for row in latest.values():
        for group, found in row.result["answers"].items():
            if found["rows"]:
                free.append([_name(row), group, str(found["rows"]), *_ended(found), *_others(found["unrelated"])])
        last = row.result["checkpoints"][-1]["all"]
        scores = [number(last[name]) for name in ("reliability", "generalization", "locality", "average")]
        before, after = (row.result["capability"][f"perplexity {when}"] for when in ("before", "after"))
        seconds = f"{row.result['median_seconds']:.2f}"
        forced.append([_name(row), *scores, f"{number(before)} / {number(after)}", seconds, source(row)])
    head = ["stream", "its rows", "number", "prompts: ended", "begin", "contain", "rephrasings: ended", "begin", "contain",
            "unrelated unchanged", "given the target"]  # fmt: skip
    return [
        "## What users see after a stream", "", *source_line(*latest.values()),
        "The library's defaults, in the model's chat template or, for a base model, as named (`python -m benchmarks.quality.chat`): facts were edited one after the other, then every question "
        "was asked in a separate chat, with greedy decoding. \"Ended\": the answer is the target and then ends; \"begin\" and \"contain\": it begins with the "
        "target or contains it. For unrelated questions the last columns give the share of whole answers (24 tokens) equal to the unedited model's, and of answers that "
        "became the row's target. \"Subject once\": rows whose subject occurs in no other row of the stream. WikiBigEdit's unrelated questions are near misses.", "",
        *table(head, free),
        "The same streams, teacher-forced, with the perplexity of unrelated answers before and after editing, and seconds per edit (median, on a shared machine):", "",
        *table(["stream", "reliability", "generalization", "locality", "average", "perplexity", "s per edit", "source"], forced),
        *_values(results),
    ]  # fmt: skip


def _values(results: Path) -> list[str]:
    """Codes, numbers and addresses: the latest run with every patience."""
    runs = {row.settings["patience"]: row for row in rows.read("values", results)}
    if not runs:
        return []
    lines = [
        [kind, *(cell for row in runs.values() for cell in _exact(row.result["kinds"][kind]))]
        for kind in next(iter(runs.values())).result["kinds"]
    ]
    for what in ("steps", "started again", "not converged"):
        lines.append([what, *(cell for row in runs.values() for cell in (number(row.result[what]), ""))])
    names = [f"starting once more after {p} steps" if p < MANY else "without starting once more" for p in runs]
    return [
        "### Codes, numbers and addresses", "", *source_line(*runs.values()),
        "66 facts of the project's own, three rewordings each (`python -m benchmarks.quality.values`), edited in a chat. Each cell: the share of those that "
        "read their edit whose whole answer is the target, and how many that is of; first of the questions, then of the rewordings. `MemoirConfig.steps` is the most "
        "steps in both.", "",
        *table(["", *(f"{name}: {part}" for name in names for part in ("questions", "rewordings"))], lines),
    ]  # fmt: skip


def _exact(parts: dict) -> list[str]:
    return [f"{number(of['exact'] / of['read'])} of {of['read']}" for of in (parts["prompt"], parts["rewordings"])]


def _name(row: rows.Row) -> str:
    model, config = row.settings["model"], row.settings.get("config", {})
    before = "" if config.get("acts") else ", before `acts` and `wordings` existed"
    where = (
        ""
        if model == "smollm2"
        else f", {Path(model).name}, " + ("`question_template`" if _questions(row) else "plain text")
    )
    return row.settings["edits"] + where + before


def _questions(row: rows.Row) -> bool:
    return bool(row.settings["config"].get("question_template"))


def _ended(found: dict) -> list[str]:
    kinds = ("exact and ended", "begins", "contains")
    return [number(found[part][kind]) for part in ("prompt", "rephrase") for kind in kinds]


def _others(found: dict) -> list[str]:
    return [number(found["unchanged"]), number(found["given the target"])]
