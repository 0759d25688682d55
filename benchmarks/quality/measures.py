"""What is measured of a memory after a stream of edits: scores, causes of wrong answers, overlaps, other thresholds."""

from __future__ import annotations

import torch

from benchmarks.library import metrics
from benchmarks.quality import tasks
from memoir_fast import load_texts


def scored(task: str, model, rows) -> dict:
    """The task's metrics, and how many prompts and rephrasings read the memory at all."""
    with model.disabled():
        base = tasks.base_answers(model, rows)
    found = tasks.score(task, model, rows, base)
    for name, part in (("routed_prompts", "prompt"), ("routed_rephrasings", "rephrase")):
        texts = [getattr(row, part) for row in rows if getattr(row, part)]
        if texts:
            found[name] = metrics.mean(route["edit"] is not None for route in model.route(texts, top=1))
    return found


def checkpoint(task: str, model, rows) -> dict:
    """The scores after `rows` were edited."""
    found = {"edits": len(rows), "threshold": model.threshold.median, "all": scored(task, model, rows)}
    if len(rows) >= 300:
        middle = len(rows) // 2 - 50
        for name, group in (("first", rows[:100]), ("middle", rows[middle : middle + 100]), ("last", rows[-100:])):
            found[name] = scored(task, model, group)
    return found


def repeated(task: str, model, rows) -> dict:
    """Where a later row gives a fact another target: those rows by their own targets and by the latest."""
    pairs = tasks.latest(rows)
    found = {"rows": len(pairs)}
    if task not in tasks.QUESTIONS or not pairs:
        return found
    for name, group in (("own", [own for own, _ in pairs]), ("latest", [late for _, late in pairs])):
        for metric, part in (("reliability", "prompt"), ("generalization", "rephrase")):
            asked = [(getattr(row, part), row.target) for row in group]
            found[f"{name}_{metric}"] = metrics.mean(metrics.token_accuracy(model, asked))
    return found


def causes(model, rows) -> dict:
    """Why target tokens are missed, as shares of all target tokens (each row counts the same).

    `conflict`: a later row gives the fact another target; `retrieval`: another edit is read, or none; `own`: the row's own edit is read and
    the answer is still wrong: for prompts, which were right when they were edited, because later edits wrote over it.
    """
    conflicting = {row for row, _ in tasks.latest(rows)}
    found = {}
    for part in ("prompt", "rephrase"):
        asked = [(number, row) for number, row in enumerate(rows) if getattr(row, part)]
        if not asked:
            continue
        routes = model.route([getattr(row, part) for _, row in asked], top=1)
        missed = [
            1 - right for right in metrics.token_accuracy(model, [(getattr(row, part), row.target) for _, row in asked])
        ]
        shares = dict.fromkeys(("conflict", "retrieval", "own"), 0.0)
        own = [route["edit"] == number for (number, _), route in zip(asked, routes, strict=True)]
        for (_, row), read, share in zip(asked, own, missed, strict=True):
            shares["conflict" if row in conflicting else "own" if read else "retrieval"] += share / len(asked)
        found[part] = {name: float(value) for name, value in shares.items()} | {"reads_its_own": metrics.mean(own)}
    return found


def distributions(model, rows) -> dict:
    """Score with the likeliest stored edit, of every prompt, rephrasing and unrelated prompt; the threshold stands in the checkpoint."""
    found = {}
    for part in ("prompt", "rephrase", "unrelated"):
        texts = [getattr(row, part) for row in rows if getattr(row, part)]
        if texts:
            found[part] = [round(route["score"], 4) for route in model.route(texts, top=1)]
    return found


def sweep(task: str, model, rows, thresholds: list[float], free: bool) -> list[dict]:
    """The scores of the finished memory at other thresholds: a threshold decides only who reads, not what is written."""
    calibrated, found = model.threshold.fixed, []
    try:
        for threshold in thresholds:
            model.threshold.fixed = threshold
            found.append({"threshold": threshold, **scored(task, model, rows)})
            if free:
                found[-1]["free_locality"] = tasks.free_locality(model, rows)
    finally:
        model.threshold.fixed = calibrated
    return found


def background_perplexity(model) -> float:
    """Of 50 shipped unrelated answers, given their questions: exp of the mean negative log-likelihood of all their tokens."""
    pairs = [(prompt, answer) for prompt, answer in load_texts().records if answer][:50]
    losses = [
        torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        for logits, labels in metrics.target_logits(model, pairs)
    ]
    return float(torch.cat(losses).mean().exp())
