"""The sections on thousands of edits in one store: what of them stays, and what a call costs."""

from __future__ import annotations

from pathlib import Path

from benchmarks import rows
from benchmarks.library import rank_of
from benchmarks.results_page.text import number, source_line, spread, table

# The first run took evenly spaced rows in the place of drawn ones: in an interleaved stream these are of some of the data sets only.
GROUPS = {"first": "first hundred", "last": "last hundred", "drawn": "drawn from all", "spread": "evenly spaced"}
PARTS = {"prompt": "questions", "rephrase": "rewordings"}


def sections(results: Path) -> list[str]:
    return [*_long_stream(results), *_forms(results), *_calls(results)]


def groups(mark: dict) -> dict[str, str]:
    """The groups of rows that a checkpoint has, with their names."""
    return {group: name for group, name in GROUPS.items() if group in mark}


def _long_stream(results: Path) -> list[str]:
    """What stays of the latest long stream."""
    found = rows.read("long_stream", results)[-1:]
    if not found:
        return []
    row, marks = found[0], found[0].result["checkpoints"]
    named = groups(marks[0])
    curve = [
        [str(mark["edits"]), str(mark["pages"]), *(number(mark[group]["prompt"]["exact and ended"]) for group in named)]
        for mark in marks
    ]
    whole = [mark for mark in marks if "average" in mark["first"]]
    lines = [
        [str(mark["edits"]), name, str(scores["rows"]), str(scores["replaced"]),
         *(number(scores[part][what]) for part in PARTS for what in ("exact and ended", "read")),
         number(scores["unrelated"]), number(scores["average"])]
        for mark in whole for group, name in named.items() for scores in [mark[group]]
    ]  # fmt: skip
    by_set = [
        [name, label, *(number(whole[-1][group][part]["by set"].get(name)) for part in PARTS)]
        for name in row.settings["sets"]
        for group, label in named.items()
    ]
    head = ["edits", "rows", "number", "replaced", "questions: ended", "read", "rewordings: ended", "read", "unrelated unchanged", "average"]  # fmt: skip
    return [
        "## Thousands of edits", "", *source_line(row),
        f"Rows of {', '.join(row.settings['sets'])}, interleaved, were edited one after the other in chats, with the defaults (`python -m "
        "benchmarks.quality.long_stream`). At each checkpoint questions were asked in chats of their own; this is the share that was answered with exactly "
        "the target. Rows whose fact a later row replaced are not asked. Evenly spaced rows are of some of the data sets only.", "",
        *table(["edits", "pages", *named.values()], curve), "![answers along the stream](images/long_stream.svg)", "",
        "At the halves, rewordings and unrelated questions were asked too. \"Read\": the share that reads its own edit; \"average\": the mean of "
        "questions, rewordings and unrelated ones.", "", *table(head, lines),
        "At the end, by data set (many of CounterFact's rewordings stand behind a foreign sentence):", "",
        *table(["data set", "rows", *PARTS.values()], by_set),
    ]  # fmt: skip


def _forms(results: Path) -> list[str]:
    """What a smaller form of C costs, over all seeds."""
    found = {(row.settings["form"], row.settings["seed"]): row for row in rows.read("forms", results)}
    if not found:
        return []
    lines = []
    for form in dict.fromkeys(form for form, _ in found):
        runs = [found[key] for key in sorted(found) if key[0] == form]
        scores = [
            [run.result[group][part]["exact and ended"] for run in runs]
            for group in ("first", "last", "drawn")
            for part in PARTS
        ]
        average = [run.result["drawn"]["average"] for run in runs]
        sizes = ["none" if form == "none" else f"{_bytes(form, D) / 1e6:.3g} MB" for D in (1536, 14336)]
        steps = spread([run.result["mean_steps"] for run in runs])
        lines.append([form, *sizes, str(len(runs)), *map(spread, scores), spread(average), steps])
    edits = next(iter(found.values())).settings["edits"]
    parts = [f"{GROUPS[group]}: {name}" for group in ("first", "last", "drawn") for name in PARTS.values()]
    return [
        "### Smaller forms of C", "", *source_line(*found.values()),
        f"C is the matrix that records what earlier edits of a page read. The first {edits:,} rows of the stream above were edited with C in the library's form "
        "(own: its D/24 largest directions, at most 512, and the diagonal), whole (float32), or brought into another form "
        "after each edit (`python -m benchmarks.experiments.forms`): rounded to bfloat16, its N largest directions and the diagonal of the rest, or forgotten. "
        "Exact and ended; the mean over permutations (seeds), and the range; the average is that of drawn questions, rewordings and unrelated questions. The sizes are calculated; of a "
        "whole C half is held, as it is symmetric.", "",
        *table(["form", "SmolLM2", "LLaMA-3-8B", "seeds", *parts, "average", "mean steps"], lines),
    ]  # fmt: skip


def _bytes(form: str, D: int) -> int:
    """What C takes in a form."""
    if form == "own" or form.startswith("rank="):
        return 4 * D * ((rank_of(D) if form == "own" else int(form.removeprefix("rank="))) + 1)
    return D * (D + 1) // 2 * (2 if form == "bfloat16" else 4)


def _calls(results: Path) -> list[str]:
    """What each call on a store costs."""
    found = rows.read("scaling_store", results)[-1:]
    if not found:
        return []
    made = found[0].result["rows"]
    head = ["call", *(f"{one['edits']} edits" for one in made), f"{made[-1]['edits']} : {made[0]['edits']}"]
    lines = [
        [call, *(number(one["ms"][call]) for one in made), number(made[-1]["ms"][call] / made[0]["ms"][call])]
        for call in made[0]["ms"]
    ]
    return [
        "## What a call on a store costs", "", *source_line(*found),
        "Milliseconds of wall time, medians, by the number of stored edits (generated questions with random updates; `python -m benchmarks.speed.scaling "
        "--store`). \"Edit, without its optimisation\" is what a store and the look-up add to an edit.", "", *table(head, lines),
    ]  # fmt: skip
