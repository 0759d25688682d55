"""Sections on quality: what streams of edits retain, other methods on the same rows, other tasks, newer facts."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks import rows
from benchmarks.results_page import streams as of
from benchmarks.results_page.text import number, source, source_line, sources, spread, table
from benchmarks.rows import Row

SCORES = ("reliability", "generalization", "locality", "average")
TASK_SCORES = ("efficacy", "paraphrase", "neighbourhood", "ood_accuracy", "ood_perplexity")
PEERS = {"unedited": "unedited", "ft_l": "fine-tuning the same projection, edit by edit", "lora": "LoRA on the same projection, edit by edit (PEFT)",
         "in_context": "putting the nearest stored fact before the question",
         "grace": "GRACE, simplified (`benchmarks/rivals/grace.py`), its radius calibrated on the shipped background",
         "published": "the published editor in plain PyTorch{}, a fixed threshold of 0.5"}  # fmt: skip


def sections(results: Path) -> list[str]:
    found = of.read(results)
    return [*retention(found), *switched(found), *peers(results), *tasks(found), *newer(results)]


def details(results: Path) -> list[str]:
    """Every stream by itself."""
    found = of.read(results)
    return [*runs(found), *checkpoints(found), *thresholds(found), *causes(found), *repeated(found), *free(found)]


# ---- the headline tables -----------------------------------------------------------------------------------------


def retention(found: list[Row]) -> list[str]:
    lines = []
    for title, changed in (
        ('rows 0-99, default (`write="preconditioned"`)', {}),
        ('rows 0-99, the same with `precision="exact"`', {"precision": "exact"}),
        ('rows 0-99, the authors\' optimisation (`recipe="published"`)', of.PLAIN_SGD | {"recipe": "published"}),
        ('rows 0-99, plain SGD (`write="sgd"`): losses divided by n, not n + 1', of.PLAIN_SGD),
        ("rows 0-99, plain SGD without weight decay", of.PLAIN_SGD | {"weight_decay": 0.0}),
        ("rows 0-99, plain SGD with the default's learning rate and momentum, no decay", {"write": "sgd"}),
    ):
        group = of.pick(found, of.ZSRE_100, **changed)
        if group:
            scores = [of.last(row)["all"] for row in group]
            steps = f"{statistics.mean(row.result['mean_steps'] for row in group):.1f}"
            lines.append([title, *(spread([s[name] for s in scores]) for name in SCORES[:3]), steps, sources(group)])
    for edits, title, short, changed in (
        ("zsre.jsonl, rows 0-999", "rows 0-999, with steps that adapt their length, as is the default now", "thousand", of.ADAPTIVE),
        ("zsre.jsonl, rows 0-999", "rows 0-999, default", "thousand", {}),
        ("zsre.jsonl, rows 300-999", "rows 300-999 as a separate stream, default (settings were chosen on rows 0-299)", "seven hundred", {}),
    ):  # fmt: skip
        for row in of.pick(found, edits, **changed):
            lines.append([title, *_scores(of.last(row)["all"]), f"{row.result['mean_steps']:.1f}", source(row)])
            for mark in row.result["checkpoints"]:
                if 100 < mark["edits"] < of.last(row)["edits"]:
                    then = f"the first {mark['edits']}, measured before the rest were made"
                    lines.append([f"of these, {then}", *_scores(mark["all"]), "", source(row)])
            first = f"of these, the first hundred, after all {short}"
            lines.append([first, *_scores(of.last(row)["first"]), "", source(row)])
    notes = [f"{row.name}: {row.result['note']}" for row in found if "note" in row.result]
    return [
        "## Retention", "",
        "ZsRE rows edited one after the other (`python -m benchmarks.quality.retention`), with the shipped background, calibrated "
        "thresholds and, unless stated otherwise, `precision=\"fast\"`. For rows 0-99 the table gives the mean over permutations (seeds), and the range. "
        f"{_default(found)}", "",
        "All scores are teacher-forced. Reliability and generalization are the share of target tokens that the model finds likeliest after the prompt "
        "and after its rephrasing; locality is the share of an unrelated answer's positions where the unedited model's token stays. Each row is asked for "
        "its own target, even if a later row contradicts it.", "",
        *table(["", *SCORES[:3], "mean steps", "source"], lines), *(line for note in notes for line in (note, "")),
        "![Reliability and generalization along the streams](images/retention.svg)", "",
        "![Overlap with the nearest stored edit](images/overlaps.svg)", "",
    ]  # fmt: skip


def _scores(found: dict) -> list[str]:
    return [number(found[name]) for name in SCORES[:3]]


def _default(found: list[Row]) -> str:
    """What the streams mean by default: theirs is older than steps that adapt, and than words that find edits."""
    by_words = any(row.settings["config"].get("router") == "tokens" for row in found)
    return (
        '"Default" means the default of that time: a learning rate of 6.0 with momentum 0.8, instead of steps that adapt their length'
        + ("." if by_words else "; all in plain text, with edits found by their masks instead of their words.")
    )


def switched(found: list[Row]) -> list[str]:
    """One switch each from the default."""
    lines = []
    for group in of.groups(found, of.ZSRE_100):
        scores = [of.last(row)["all"] for row in group]
        cells = [spread([s[name] for s in scores]) for name in SCORES]
        steps, seconds = (statistics.mean(row.result[name] for row in group) for name in ("mean_steps", "mean_seconds"))
        lines.append([_switch(group[0]), str(len(group)), *cells, f"{steps:.1f}", f"{seconds:.1f}",
                      sources(group)])  # fmt: skip
    head = ["switch", "seeds", *SCORES, "mean steps", "s per edit", "source"]
    lines.sort(key=lambda line: line[0] != "default")
    return [
        "## One switch each: ZsRE rows 0-99", "",
        "Each row names what differs from the default. Mean over permutations (seeds), and the range. Seconds per edit were measured with one thread of a "
        "shared machine: a guide, not a benchmark. `replay` is an experiment (`benchmarks/experiments/`), not an option of the library.", "",
        *table(head, lines),
    ]  # fmt: skip


def _switch(row: Row) -> str:
    own = of.switches(row)
    changed = [f"`{name}={value}`" for name, value in own.items() if value != of.DEFAULT[name]]
    return ", ".join(changed) or "default"


def peers(results: Path) -> list[str]:
    parts = []
    for run in {row.settings["edits"]: row for row in rows.read("peers", results)}.values():
        lines = []
        for name, scores in run.result["peers"].items():
            seconds = "" if name == "unedited" else f"{run.result['seconds'][name]:.1f}"
            lines.append(
                [
                    PEERS.get(name, name).format(
                        "" if "recipe" in run.settings else ", its losses divided by n, not n + 1"
                    ),
                    *(number(scores[metric]) for metric in SCORES),
                    seconds,
                    number(scores["background_perplexity"]),
                ]
            )
        parts += [
            f"## Other ways: {run.settings['edits']}", "", *source_line(run),
            "`python -m benchmarks.quality.peers`. The last column is the perplexity of 50 unrelated answers, which editing with the memory "
            "does not change. WISE was not run.", "",
            *table(["method", *SCORES, "seconds per edit", "perplexity"], lines),
        ]  # fmt: skip
    return parts


def tasks(found: list[Row]) -> list[str]:
    lines = []
    for row in found:
        if row.settings["task"] == "zsre":
            continue
        for title, scores in ((_switch(row), of.last(row)["all"]), ("unedited", row.result.get("unedited"))):
            if scores:
                free = row.result.get("free", {}).get("locality") if title != "unedited" else None
                lines.append([row.settings["edits"], title, *(number(scores.get(name)) for name in SCORES[:3]),
                              number(scores.get("perplexity")), *(number(scores.get(name)) for name in TASK_SCORES), number(free), source(row)])  # fmt: skip
    head = [
        "rows",
        "settings",
        *SCORES[:3],
        "median target perplexity",
        *TASK_SCORES,
        "unrelated answers unchanged",
        "source",
    ]
    return [
        "## Other tasks", "",
        "Settings are the default, except for those named. Efficacy, paraphrase and neighbourhood are CounterFact's metrics: the share of rows in which the "
        "right one of two answers is the likelier. `ood` (out of distribution) is a differently worded description.", "",
        *table(head, lines, drop_empty=True),
        "CounterFact's unrelated prompts are worded like its edits (\"The mother tongue of ... is\"). The words' rule has replaced "
        "`feature=\"rare_decentered\"`, which gave more weight to a prompt's rare tokens before hashing. If unrelated prompts are worded like your edits, "
        "**calibrate with prompts of your own wording** (`--background`).", "",
    ]  # fmt: skip


def newer(results: Path) -> list[str]:
    found = rows.read("newer", results)
    if not found:
        return []
    run = found[-1]
    lines = [[str(r.get("conflict_threshold", "by the words")), number(r["single edits"]["prompt"]), number(r["single edits"]["rephrase"]),
              number(r["latest, asked in the newer words"]), number(r["latest, asked in the first words"]), str(r["superseded"]),
              f"{r['bytes_per_edit'] / 1e6:.2f} MB"] for r in run.result["rows"]]  # fmt: skip
    head = ["conflict threshold", "single edits, prompts", "their rephrasings", "latest target, newer words", "latest target, first words",
            "superseded", "log per edit"]  # fmt: skip
    by_masks = any("conflict_threshold" in r for r in run.result["rows"])
    then = (
        "This run is from before words decided what a new edit supersedes: it superseded edits whose mask overlapped its own by at least the "
        "conflict threshold. At 0.95, the default then, no rewording superseded; at 0.75 some did, and some of these were other questions about the "
        "same subject."
    )
    return [
        "## A newer fact against an older one", "", *source_line(run),
        f"{run.settings['edits']}: edited, then each edited again in the words of its rephrasing and with another target "
        "(`python -m benchmarks.quality.newer`). The scores are token accuracies." + (f" {then}" if by_masks else ""), "",
        *table(head, lines),
    ]  # fmt: skip


# ---- every run by itself -----------------------------------------------------------------------------------------


def runs(found: list[Row]) -> list[str]:
    shown = list(of.DEFAULT)
    lines = [[row.name or "", row.settings["edits"], str(row.settings["seed"]), *(str(value or "") for value in of.switches(row).values()),
              f"{row.result['mean_steps']:.1f}", f"{row.result['median_seconds']:.2f}", source(row)] for row in found]  # fmt: skip
    text = "Seconds are medians, and not comparable between runs, because some runs shared the machine."
    other = [
        row.name
        for row in found
        if (row.name or "").startswith("published") and of.switches(row)["recipe"] != "published"
    ]
    if other:
        text += (
            f" {', '.join(f'`{name}`' for name in other)} are plain SGD whose losses are divided by n, here and in the tables below: not the authors' own "
            'optimisation, which divides by n + 1 (`recipe="published"`).'
        )
    return [
        "### Runs",
        "",
        text,
        "",
        *table(["run", "rows", "seed", *shown, "mean steps", "s per edit", "source"], lines),
    ]


def checkpoints(found: list[Row]) -> list[str]:
    shown = (*SCORES, "perplexity", *TASK_SCORES)
    lines = []
    for row in found:
        for mark in row.result["checkpoints"]:
            for group in ("all", "first", "middle", "last"):
                if group in mark:
                    scores = [number(mark[group].get(name)) for name in shown]
                    lines.append([row.name or "", str(mark["edits"]), group, number(mark["threshold"]), *scores])
        if "unedited" in row.result:
            scores = [number(row.result["unedited"].get(name)) for name in shown]
            lines.append([row.name or "", str(of.last(row)["edits"]), "unedited", "", *scores])
    text = ("Scores after the given number of edits. `first`, `middle` and `last` are a hundred edits each; `unedited` is the base model on all of them. "
            "tau is the median of the edits' thresholds at which the scores were measured.")  # fmt: skip
    return ["### Checkpoints", "", text, "", *table(["run", "edits", "of them", "tau", *shown], lines, drop_empty=True)]


def thresholds(found: list[Row]) -> list[str]:
    shown = (
        *SCORES,
        "efficacy",
        "paraphrase",
        "neighbourhood",
        "routed_prompts",
        "routed_rephrasings",
        "free_locality",
    )
    lines = []
    for row in found:
        if "sweep" in row.result:
            calibrated = {"threshold": of.last(row)["threshold"], **of.last(row)["all"]}
            for scores in (calibrated, *row.result["sweep"]):
                lines.append(
                    [row.name or "", f"{scores['threshold']:.3f}", *(number(scores.get(name)) for name in shown)]
                )
    text = ("The finished memories, read with one threshold for all edits. The first line of each run has calibrated thresholds, one per edit "
            "(tau is their median).")  # fmt: skip
    return ["### Thresholds", "", text, "", *table(["run", "tau", *shown], lines, drop_empty=True)] if lines else []


def causes(found: list[Row]) -> list[str]:
    shown = ("own", "retrieval", "conflict", "reads_its_own")
    lines = [[row.name or "", str(of.last(row)["edits"]), part, *(number(shares[name]) for name in shown)]
             for row in found for part, shares in row.result.get("causes", {}).items()]  # fmt: skip
    text = ("Shares of the target tokens that are missed, by cause. *Own edit*: the row's edit is read but its answer is wrong. *Retrieval*: another edit "
            "or none is read. *Conflict*: a later row gives the fact another target.")  # fmt: skip
    head = ["run", "edits", "asked by", "own edit", "retrieval", "conflict", "rows that read their own edit"]
    return ["### Why answers are wrong", "", text, "", *table(head, lines)] if lines else []


def repeated(found: list[Row]) -> list[str]:
    lines = []
    for row in found:
        part = row.result.get("repeated", {})
        if not part.get("rows"):
            continue
        count, scores, cells = of.last(row)["edits"], of.last(row)["all"], [row.name or "", str(part["rows"])]
        for metric in ("reliability", "generalization"):
            own, late = part[f"own_{metric}"], part[f"latest_{metric}"]
            cells += [number(own), number(late), number(scores[metric] + (late - own) * part["rows"] / count)]
        lines.append(cells)
    head = ["run", "rows", *(f"{metric}, {what}" for metric in ("reliability", "generalization")
                             for what in ("own target", "latest target", "all rows by the latest"))]  # fmt: skip
    return ["### Facts given again with another target", "", *table(head, lines)] if lines else []


def free(found: list[Row]) -> list[str]:
    lines = [[row.name or "", *(number(row.result["free"].get(name)) for name in ("reliability", "generalization", "locality")),
              *(number(row.result.get("background_perplexity", {}).get(name)) for name in ("before", "after"))]
             for row in found if "free" in row.result]  # fmt: skip
    head = [
        "run",
        "begins with the target",
        "rephrased",
        "unrelated answers unchanged",
        "perplexity of unrelated answers before",
        "after",
    ]
    return ["### Free generation", "", *table(head, lines)] if lines else []
