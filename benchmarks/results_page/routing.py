"""The section on which edit is read: by words, by masks, and by a search engine's word statistics."""

from __future__ import annotations

from pathlib import Path

from benchmarks import rows
from benchmarks.results_page.text import source_line, table

RULES = {"words": "words (default)", "mask": "masks (published)", "bm25": "BM25"}


def sections(results: Path) -> list[str]:
    found = rows.read("routing", results)
    if not found:
        return []
    row = found[-1]
    made = row.result["rules"]
    names = [name for name in RULES if name in made]
    lines = []
    for part in ("public", "demo", "everyday"):
        first = made[names[0]].get(part, {})
        for what, measured in first.items():
            asked = {"": measured} if part != "public" else {k: v for k, v in measured.items() if k != "threshold"}
            for kind in asked:
                cells = [_cell(made[name].get(part, {}).get(what), kind) for name in names]
                count = (measured[kind] if kind else measured)["prompts"]
                lines.append([f"{part}: {what}" + (f", {kind}" if kind else ""), str(count), *cells])
    chat = "in chats" if row.settings["chat"] else "in plain text"
    return [
        "## Routing", "",
        f"Which edit a prompt reads, {row.settings['model']}, {chat}: edits stored, not trained. \"Right\" is the share that reads the right edit (ZsRE: another edit of "
        "the same subject counts, for the file gives 18 % of its facts again), \"kept out\" the share that reads none, by thresholds calibrated at the default rate "
        "on the package's unrelated prompts. The networks were fitted on generated questions only. Their default threshold was chosen while these same rows were looked "
        "at a few times, and the everyday questions are our own, so new rows may do a little worse. Stored: "
        + ", ".join(f"{name} {count}" for name, count in row.settings["stored"].items()) + ".", "",
        *table(["prompts", "number", *(RULES[name] for name in names)], lines),
        *source_line(row),
    ]  # fmt: skip


def _cell(measured: dict | None, kind: str) -> str:
    measured = (measured or {}).get(kind) if kind else measured
    if not measured:
        return ""
    if "kept_out" in measured:
        return f"kept out {measured['kept_out']:.3f}"
    wrong = f" (another {measured['wrong']:.3f})" if measured["wrong"] else ""
    return f"right {measured['right']:.3f}{wrong}"
