"""The demo: edits shipped facts, and shows the model's free answers before and after."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

from ..text.answers import equals
from .facts import Fact, load_facts
from .metrics import mean, whole_answers
from .protocol import ANSWER_TOKENS, edit_all, measure

if TYPE_CHECKING:
    from ..model import MemoirModel

# Part of a fact -> what its question is, and what a right answer is.
_PARTS = {
    "prompt": ("the edited question", "answered with the new fact, and ended"),
    "rephrase": ("the same in other words", "answered with the new fact, and ended"),
    "other_question": ("the same subject, another question", "answered as before"),
    "other_subject": ("the same question, another subject", "answered as before"),
    "unrelated": ("an unrelated question", "answered as before"),
}
_SHOWN = 3  # facts whose questions are printed one by one


def run_demo(model: MemoirModel, say: Callable[[str], None]) -> dict[str, Any]:
    """Edit the twenty facts of `data/demo.jsonl` and report the model's answers.

    Args:
        model: a model to edit.
        say: called with each line of the report.

    Returns:
        all of it for JSON: the scores of `protocol.measure`; "count"; "seconds_per_edit"; "threshold"; "right", for
            each part the
        number of questions answered rightly; "rows", for each question {"part", "question", "before", "after",
        "right"}.
    """
    with resources.as_file(resources.files("memoir_fast") / "data" / "demo.jsonl") as path:
        facts = load_facts(path)
    questions = {part: [getattr(fact, part) for fact in facts] for part in _PARTS}
    before = {part: whole_answers(model, asked, ANSWER_TOKENS) for part, asked in questions.items()}
    results = edit_all(model, facts)
    after = {part: whole_answers(model, asked, ANSWER_TOKENS) for part, asked in questions.items()}
    scores = measure(model, facts)
    del scores["answers"]
    rows = [
        {"part": part, "question": questions[part][number], "before": before[part][number], "after": after[part][number],
         "right": _right(part, fact, before[part][number], after[part][number])}
        for number, fact in enumerate(facts) for part in _PARTS
    ]  # fmt: skip
    _show(rows, facts, say)
    right = {part: sum(row["right"] for row in rows if row["part"] == part) for part in _PARTS}
    say(f"\nAll {len(facts)} facts, edited one after the other:")
    for part, (title, wanted) in _PARTS.items():
        say(f"  {right[part]:>3} of {len(facts)}   {title + ':':<36} {wanted}")
    seconds = mean(result.seconds for result in results)
    _figures(scores, seconds, model.threshold.median, say)
    return {
        **scores,
        "count": len(facts),
        "seconds_per_edit": seconds,
        "threshold": model.threshold.median,
        "right": right,
        "rows": rows,
    }


def _right(part: str, fact: Fact, before: str, after: str) -> bool:
    if part in ("prompt", "rephrase"):
        return equals(after, fact.target)
    return after == before


def _show(rows: list[dict[str, Any]], facts: list[Fact], say: Callable[[str], None]) -> None:
    """Report the first facts' questions and answers."""
    for number, fact in enumerate(facts[:_SHOWN]):
        say(f"\nEdit: {fact.prompt} -> {fact.target}")
        say(f"    {'asked afterwards':<60} {'answer before':<38} answer now")
        for row in rows[number * len(_PARTS) : (number + 1) * len(_PARTS)]:
            now = "(as before)" if row["after"] == row["before"] else _cut(row["after"], 40)
            say(f"  {'+' if row['right'] else '-'} {_cut(row['question'], 60):<60} {_cut(row['before'], 38):<38} {now}")


def _figures(scores: dict[str, Any], seconds: float, threshold: float, say: Callable[[str], None]) -> None:
    """Report the exact figures."""
    free = scores["free_generation"]
    say("")
    for name in ("reliability", "generalization", "locality"):
        ended = f", {free[f'ended_{name}']:.3f} exactly and ended" if f"ended_{name}" in free else ""
        say(f"{name:>16}: {scores[name]:.3f} teacher-forced; by free generation {free[name]:.3f}{ended}")
    say(f"{'seconds per edit':>16}: {seconds:.2f} (threshold {threshold:.3f})")


def _cut(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"
