"""The demo: edit shipped facts and show what the model answers before and after, by free generation."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

from .facts import load_facts
from .metrics import begins_with, mean, whole_answers
from .protocol import ANSWER_TOKENS, edit_all, measure

if TYPE_CHECKING:
    from ..model import MemoirModel

_PARTS = (("prompt", "edited prompts"), ("rephrase", "rephrasings"), ("unrelated", "unrelated questions"))


def run_demo(model: MemoirModel, say: Callable[[str], None]) -> dict[str, Any]:
    """Edit the twenty facts of `data/demo.jsonl` and print the tables through `say`; returns them for JSON."""
    with resources.as_file(resources.files("memoir_fast") / "data" / "demo.jsonl") as path:
        facts = load_facts(path)
    questions = {part: [getattr(fact, part) for fact in facts] for part, _ in _PARTS}
    before = {part: whole_answers(model, questions[part], ANSWER_TOKENS) for part in ("prompt", "rephrase")}
    results = edit_all(model, facts)
    scores = measure(model, facts)
    after = scores.pop("answers")
    before["unrelated"] = after["unrelated_before"]
    rows = []
    for part, title in _PARTS:
        say(f"\n{title.upper()}\n{'question':<62} {'before':<34} after")
        for number, fact in enumerate(facts):
            old, new = before[part][number], after[part][number]
            kept = new == old if part == "unrelated" else begins_with(new, fact.target)
            rows.append({"part": part, "question": questions[part][number], "before": old, "after": new, "right": kept})
            say(f"{_cut(questions[part][number], 62):<62} {_cut(old, 34):<34} {'+' if kept else '-'} {_cut(new, 60)}")
    say("\n(+ the answer begins with the new target; for unrelated questions: it has not changed)\n")
    seconds = mean(r.seconds for r in results)
    free = scores["free_generation"]
    for name in ("reliability", "generalization", "locality"):
        ended = f", {free[f'ended_{name}']:.3f} exactly and ended" if f"ended_{name}" in free else ""
        say(f"{name:>16}: {scores[name]:.3f} teacher-forced; by free generation {free[name]:.3f}{ended}")
    say(f"{'seconds per edit':>16}: {seconds:.2f} ({len(facts)} edits, threshold {model.threshold.median:.3f})")
    return {
        **scores,
        "count": len(facts),
        "seconds_per_edit": seconds,
        "threshold": model.threshold.median,
        "rows": rows,
    }


def _cut(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"
