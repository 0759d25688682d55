"""The evaluation tasks: what is scored after a stream of edits, for an edited model or any peer that answers like one.

A peer has what `memoir_fast.metrics` asks of a model: `model`, `encoder`, `config.batch_size`, `__call__`, `disabled()` and `ask`.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.library import answers, metrics

QUESTIONS = ("zsre", "qaedit", "wikibigedit")  # one target, a rephrasing and an unrelated question each
TASKS = (*QUESTIONS, "hallucination", "temporal", "counterfact")


@dataclass(frozen=True)
class Row:
    """One record of a task: an edit and its tests; fields that a task lacks are empty."""

    prompt: str
    target: str
    rephrase: str = ""
    unrelated: str = ""
    unrelated_answer: str = ""
    original: str = ""  # CounterFact: the true answer, which the edit replaces
    elsewhere: str = ""  # Temporal: a differently worded description, without a leading copy of the prompt
    subject: str = ""  # what the question is about


def load_rows(path, first: int, count: int) -> list[Row]:
    """Rows first .. first + count - 1 of a task's JSONL."""
    records = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines() if line.strip()]
    if len(records) < first + count:
        raise ValueError(f"edits: {path} has {len(records)} rows, asked for {first + count}")
    rows = []
    for record in records[first : first + count]:
        elsewhere = record.get("ood_rephrase", "")
        if elsewhere.startswith(record["prompt"]):
            elsewhere = elsewhere[len(record["prompt"]) :].strip()
        rows.append(Row(record["prompt"].strip(), record["target_new"], record.get("rephrase_prompt", ""),
                        record.get("locality_prompt", "").strip(), record.get("locality_ground_truth", "").strip(),
                        record.get("ground_truth", ""), elsewhere, record.get("subject", "")))  # fmt: skip
    return rows


def latest(rows: list[Row]) -> list[tuple[Row, Row]]:
    """The rows whose fact a later row gives another target, each with itself as that later row's target has it.

    Two rows are about one fact where a prompt or rephrasing of one equals one of the other.
    """
    found = []
    for number, row in enumerate(rows):
        said = {row.prompt, row.rephrase.strip()} - {""}
        later = [r for r in rows[number + 1 :] if said & {r.prompt, r.rephrase.strip()}]
        if later and later[-1].target != row.target:
            found.append((row, replace(row, target=later[-1].target)))
    return found


def base_answers(model, rows: list[Row]) -> list[list[int]]:
    """The unedited model's tokens at the positions of the unrelated answers: what locality compares with."""
    return metrics.predictions(model, _local(rows))


def score(task: str, model, rows: list[Row], base: list[list[int]]) -> dict:
    """The task's metrics of some rows. base: `base_answers` of the same rows."""
    found = {"locality": metrics.mean(metrics.agreement(metrics.predictions(model, _local(rows)), base))}
    pairs = [(row.prompt, row.target) for row in rows]
    if task in (*QUESTIONS, "counterfact"):
        reworded = [(row.rephrase, row.target) for row in rows if row.rephrase]
        found["reliability"] = metrics.mean(metrics.token_accuracy(model, pairs))
        found["generalization"] = metrics.mean(metrics.token_accuracy(model, reworded))
        found["average"] = metrics.mean([found["reliability"], found["generalization"], found["locality"]])
    if task == "counterfact":
        found["efficacy"] = _preferred(model, rows, "prompt")
        found["paraphrase"] = _preferred(model, rows, "rephrase")
        found["neighbourhood"] = 1 - _preferred(model, rows, "unrelated")
    if task in ("hallucination", "temporal"):
        perplexities = metrics.perplexity(model, pairs)
        found["perplexity"] = {"median": statistics.median(perplexities), "mean": metrics.mean(perplexities)}
    if task == "temporal":
        elsewhere = [(row.prompt, row.elsewhere) for row in rows if row.elsewhere]
        found["ood_accuracy"] = metrics.mean(metrics.token_accuracy(model, elsewhere))
        found["ood_perplexity"] = statistics.median(metrics.perplexity(model, elsewhere))
    return found


def free(model, rows: list[Row]) -> dict:
    """Scores of free greedy answers: share that begins with the target; locality: see `free_locality`."""
    found = {"locality": free_locality(model, rows)}
    longest = max(len(model.encoder.pair(row.prompt, row.target).tokens) for row in rows)
    for name, part in (("reliability", "prompt"), ("generalization", "rephrase")):
        asked = [row for row in rows if getattr(row, part)]
        if asked:
            texts = model.ask([getattr(row, part) for row in asked], max_new_tokens=longest)
            found[name] = metrics.mean(answers.begins_with(t, row.target) for t, row in zip(texts, asked, strict=True))
    return found


def free_locality(model, rows: list[Row]) -> float:
    """Share of unrelated prompts whose greedy answer (24 tokens, its first sentence) is the unedited model's own."""
    prompts = [row.unrelated for row in rows if row.unrelated]
    with model.disabled():
        before = metrics.answers(model, prompts, 24)
    return metrics.mean(a == b for a, b in zip(metrics.answers(model, prompts, 24), before, strict=True))


def _local(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row.unrelated, row.unrelated_answer) for row in rows if row.unrelated and row.unrelated_answer]


def _preferred(model, rows: list[Row], part: str) -> float:
    """Share of rows where the new target is likelier than the true answer behind this prompt (per token)."""
    asked = [row for row in rows if getattr(row, part)]
    new = metrics.perplexity(model, [(getattr(row, part), row.target) for row in asked])
    old = metrics.perplexity(model, [(getattr(row, part), row.original) for row in asked])
    return metrics.mean(a < b for a, b in zip(new, old, strict=True))
