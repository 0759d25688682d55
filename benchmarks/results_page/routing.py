"""The section on which edit is read: by words, by masks, and by a search engine's word statistics."""

from __future__ import annotations

from pathlib import Path

from benchmarks import rows
from benchmarks.results_page.text import number, source_line, table

RULES = {
    "words": "words (default)",
    "mask": "masks (published)",
    "bm25": "BM25",
    "grace": "GRACE's radius",
    "oracle": "oracle (upper bound)",
}


LEFT_OUT = {
    "rewording": "another wording of a stored question",
    "wording": "the stored question, in other dress (polite, in a text, lower case, typing errors)",
    "subject": "the same question, another subject",
    "relation": "the same subject, another question",
    "mention": "a text that mentions the subject",
    "namesake": "another thing, with one word of the subject's name",
}
MODELS = {"smollm2": "SmolLM2-135M-Instruct", "gemma": "Gemma 3 270M"}


def runs_of(results: Path, model: str) -> dict[str, rows.Row]:
    """Per rule, a model's latest run with it: a change of the words' rule makes no other rule's run out of date."""
    return {
        rule: row
        for row in rows.read("routing", results)
        if row.settings["model"] == model
        for rule in row.result["rules"]
    }


def sections(results: Path) -> list[str]:
    """One table a model, each rule of the model's latest run with it."""
    models = dict.fromkeys(row.settings["model"] for row in rows.read("routing", results))
    if not models:
        return []
    latest = {model: runs_of(results, model) for model in models}
    stored = next(row for runs in latest.values() for row in runs.values()).settings["stored"]
    return [
        "## Routing", "",
        "Which edit does a prompt read? For this the edits are stored, but not trained. \"Right\" is the share of prompts that read the right edit. (In ZsRE, "
        "another edit of the same subject counts too, because the file repeats 18 % of its facts.) \"Kept out\" is the share that reads none. Thresholds are "
        "calibrated at the default rate on the package's unrelated prompts. The networks were fitted on generated questions only, with SmolLM2's activations. "
        "While their default threshold was chosen, these same rows were looked at a few times, and the everyday questions are the project's own, so "
        "new rows may give slightly worse results. Stored edits: " + ", ".join(f"{name} {count}" for name, count in stored.items()) + ".", "",
        *(line for model, runs in latest.items() for line in _of_model(model, runs)),
        *_left_out(results),
        *_cost(results),
    ]  # fmt: skip


def _left_out(results: Path) -> list[str]:
    """Near misses of classes that the network was not fitted on, of the latest run."""
    made = rows.read("left_out", results)[-1:]
    return [
        line
        for row in made
        for line in [
            "### Near misses of classes that the network never saw", "",
            f"The network that compares prompts, fitted anew without a part of the {row.settings['classes']} classes of subjects and their "
            f"relations, and asked about these; {row.settings['folds']} parts, each left out once. All parts together:", "",
            *table(["queries", "number", ""], [
                [LEFT_OUT[kind], str(measured["prompts"]), _cell(measured, "")]
                for kind, measured in row.result["all"].items()
            ]),
            *source_line(row),
        ]
    ]  # fmt: skip


def _cost(results: Path) -> list[str]:
    """What finding an edit by words costs, of the latest run."""
    lines = []
    for row in rows.read("routing_cost", results)[-1:]:
        found = [
            [
                name.replace("_", ", "),
                f"{part['tokens']:.0f}",
                number(part["base_ms"]),
                number(part["routing_ms"]),
                number(part["share"]),
            ]
            for name, part in row.result["routers"]["tokens"].items()
        ]
        lines += [
            "### What finding an edit by words adds to the time to the first token",
            "",
            f"CPU time of the process, {row.settings['stored']} stored edits, medians (`python -m benchmarks.speed.routing_cost`).",
            "",
            *table(["prompts", "tokens", "base model ms", "routing ms", "share"], found),
            *source_line(row),
        ]
    return lines  # fmt: skip


def _of_model(model: str, runs: dict[str, rows.Row]) -> list[str]:
    names = [name for name in RULES if name in runs]
    made = {name: runs[name].result["rules"][name] for name in names}
    lines = []
    for part in ("public", "demo", "everyday"):
        first = made[names[0]].get(part, {})
        for what, measured in first.items():
            asked = (
                {"": measured}
                if part != "public"
                else {k: v for k, v in measured.items() if k in ("rephrased", "unrelated")}
            )
            for kind in asked:
                cells = [_cell(made[name].get(part, {}).get(what), kind) for name in names]
                count = (measured[kind] if kind else measured)["prompts"]
                lines.append([f"{part}: {what}" + (f", {kind}" if kind else ""), str(count), *cells])
    mixed = (
        ""
        if len({_unrelated(made[name]) for name in names}) == 1
        else (
            " Where rules were run before stored questions were left out of the unrelated ones, these (three of QAEdit's, one of CounterFact's) are "
            "among them."
        )
    )
    chat = "in chats" if runs[names[0]].settings["chat"] else "in plain text"
    return [
        f"### {MODELS.get(model, model)}, {chat}", "",
        *table(["prompts", "number", *(RULES[name] for name in names)], lines),
        "For each data set and over all thresholds, the plot shows rephrasings that read the right edit against unrelated prompts kept out. The marks are "
        "the calibrated thresholds. If a rule's run has no curve, only its marks are drawn." + mixed, "",
        "![Generalization against locality over the threshold](images/routing.svg)", "",
        *source_line(*(runs[name] for name in names)),
    ]  # fmt: skip


def _unrelated(made: dict) -> tuple[int, ...]:
    """How many unrelated prompts of each data set a rule was asked."""
    return tuple(found["unrelated"]["prompts"] for found in made.get("public", {}).values())


def _cell(measured: dict | None, kind: str) -> str:
    measured = (measured or {}).get(kind) if kind else measured
    if not measured:
        return ""
    if "kept_out" in measured:
        return f"kept out {measured['kept_out']:.3f}"
    wrong = f" (another {measured['wrong']:.3f})" if measured["wrong"] else ""
    return f"right {measured['right']:.3f}{wrong}"
