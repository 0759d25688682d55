"""The protocol behind `memoir-fast eval`: edit a stream of facts one after the other, then measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from ..text.answers import begins_with, contains, equals, is_first_sentence
from . import metrics
from .facts import Fact

if TYPE_CHECKING:
    from ..journal.edit_record import EditResult
    from ..model import MemoirModel

ANSWER_TOKENS = 24  # tokens of the longest free answer; targets are shorter


def edit_all(model: MemoirModel, facts: list[Fact], quiet: bool = False) -> list[EditResult]:
    """Make the facts' edits in order and return their results. Raises as `MemoirModel.edit`; edits before a failing one
    stay."""
    with tqdm(facts, desc="editing", unit="edit", disable=quiet) as bar:
        return [model.edit(fact.prompt, fact.target) for fact in bar]


def measure(model: MemoirModel, facts: list[Fact], quiet: bool = False) -> dict[str, Any]:
    """Teacher-forced and free-generation scores of facts that have been edited.

    Returns:
        shares 0..1: "reliability", "generalization", "locality", their "average", and those in "free_generation";
        "protocols", how each was measured (see `metrics`); and "answers", the free answers in the facts' order.
    """
    with tqdm(total=7, desc="measuring", unit="part", disable=quiet) as bar:
        rephrased = [f for f in facts if f.rephrase]
        local = [f for f in facts if f.unrelated]
        with model.disabled():
            before = metrics.answers(model, [f.unrelated for f in local], ANSWER_TOKENS)
            bar.update()
            # If a file gives no answer to an unrelated question, the base model's own is used.
            given = [(f.unrelated, f.unrelated_answer or text) for f, text in zip(local, before, strict=True)]
            pairs = [(prompt, answer) for prompt, answer in given if answer]
            base = metrics.predictions(model, pairs)
            bar.update()
        scores: dict[str, Any] = {
            "reliability": metrics.mean(metrics.token_accuracy(model, [(f.prompt, f.target) for f in facts])),
            "generalization": metrics.mean(metrics.token_accuracy(model, [(f.rephrase, f.target) for f in rephrased])),
            "locality": metrics.mean(metrics.agreement(metrics.predictions(model, pairs), base)),
        }
        scores["average"] = metrics.mean(scores.values())
        bar.update(2)
        edited = metrics.whole_answers(model, [f.prompt for f in facts], ANSWER_TOKENS)
        bar.update()
        reworded = metrics.whole_answers(model, [f.rephrase for f in rephrased], ANSWER_TOKENS)
        bar.update()
        after = metrics.answers(model, [f.unrelated for f in local], ANSWER_TOKENS)
        bar.update()
    scores["free_generation"] = {
        "reliability": _share(begins_with, edited, facts),
        "generalization": _share(begins_with, reworded, rephrased),
        "locality": metrics.mean(a == b for a, b in zip(after, before, strict=True)),
        "exact_reliability": _share(is_first_sentence, edited, facts),
        "exact_generalization": _share(is_first_sentence, reworded, rephrased),
        "contains_reliability": _share(contains, edited, facts),
        "contains_generalization": _share(contains, reworded, rephrased),
        "ended_reliability": _share(equals, edited, facts),
        "ended_generalization": _share(equals, reworded, rephrased),
    }
    scores["answers"] = {"prompt": edited, "rephrase": reworded, "unrelated": after, "unrelated_before": before}
    scores["protocols"] = {
        "reliability, generalization": metrics.TEACHER_FORCED,
        "locality": metrics.LOCALITY,
        "free_generation.reliability, generalization": metrics.FREE,
        "free_generation.exact_*": metrics.FREE_EXACT,
        "free_generation.contains_*": metrics.FREE_CONTAINS,
        "free_generation.ended_*": metrics.FREE_ENDED,
        "free_generation.locality": metrics.FREE_LOCALITY,
    }
    return scores


def evaluate(model: MemoirModel, facts: list[Fact], quiet: bool = False) -> dict[str, Any]:
    """Edit and measure. Returns the scores of `measure` with settings and mean costs (seconds, steps, loss), ready for
    JSON."""
    results = edit_all(model, facts, quiet)
    scores = measure(model, facts, quiet)
    return {
        **scores,
        "count": len(facts),
        "threshold": model.threshold.median,
        "seconds_per_edit": metrics.mean(r.seconds for r in results),
        "mean_steps": metrics.mean(r.steps for r in results),
        "mean_loss": metrics.mean(r.loss for r in results),
        "settings": asdict(model.config),
    }


def _share(test: Callable[[str, str], bool], texts: list[str], facts: list[Fact]) -> float:
    return metrics.mean(test(text, fact.target) for text, fact in zip(texts, facts, strict=True))


def score_report(model: MemoirModel, related: list[str] | None = None) -> dict[str, Any]:
    """The two distributions that the threshold must separate: the scores of unrelated and of related prompts, as
    quantiles.

    Args:
        related: rephrasings of stored edits; None takes the stored prompts, each behind two of the model's short
            contexts.
    """
    if related is None:
        related = [f"{context} {e['prompt']}" for e in model.edits.values() for context in model.contexts[:2]]
    routes = model.route(related, top=1)
    return {
        "unrelated": _quantiles(model.threshold.largest, (0.5, 0.9, 0.95, 0.99, 1.0)),
        "related": _quantiles(np.array([route["score"] for route in routes]), (0.0, 0.01, 0.05, 0.1, 0.5)),
        "false_activation_rate": model.threshold.false_activation_rate(),
        "false_activation_bound": model.threshold.bound(),
        "related_activation_rate": metrics.mean(route["edit"] is not None for route in routes),
    }


def _quantiles(values: np.ndarray, at: tuple[float, ...]) -> dict[str, Any]:
    return {"count": len(values), "quantiles": {f"{100 * q:g} %": float(np.quantile(values, q)) for q in at}}
