"""Retention of a stream of edits: `python -m benchmarks.quality --edits zsre.jsonl --count 100 --folder runs/default`

Edits come one after the other; at each checkpoint the facts so far are measured, and with them the first, middle and last
hundred. A stopped run goes on where it was: the memory and the results so far lie in `--folder`. The result is one JSON a run;
`benchmarks.report` makes tables and plots of them, `benchmarks.peers` measures other methods on the same rows.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from memoir_fast import MemoirConfig, MemoirModel, load_texts
from memoir_fast.base.loading import load_model
from memoir_fast.editing.request import EditRequest
from memoir_fast.evaluation import metrics
from memoir_fast.journal.edit_writer import note_of
from memoir_fast.reading.probe import prompt_signatures
from memoir_fast.reading.threshold import overlaps

from . import harness, tasks
from .peers import background_perplexity

SAVE_EVERY = 25
SAME_FACT = 0.95  # overlap from which two prompts ask the same, as for the store's conflicts


def scored(task: str, model, rows) -> dict:
    """The task's metrics, and how many prompts and rephrasings read the memory at all."""
    with model.disabled():
        base = tasks.base_answers(model, rows)
    found = tasks.score(task, model, rows, base)
    for name, part in (("routed_prompts", "prompt"), ("routed_rephrasings", "rephrase")):
        texts = [getattr(row, part) for row in rows if getattr(row, part)]
        if texts:
            nearest, overlap = _nearest(model, texts)
            found[name] = float(metrics.mean(overlap >= model.threshold.of(nearest)))
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
    if task != "zsre" or not pairs:
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
        nearest, overlap = _nearest(model, [getattr(row, part) for _, row in asked])
        missed = [
            1 - right for right in metrics.token_accuracy(model, [(getattr(row, part), row.target) for _, row in asked])
        ]
        shares = dict.fromkeys(("conflict", "retrieval", "own"), 0.0)
        own = (nearest == [number for number, _ in asked]) & (overlap >= model.threshold.of(nearest))
        for (_, row), read, share in zip(asked, own, missed, strict=True):
            shares["conflict" if row in conflicting else "own" if read else "retrieval"] += share / len(asked)
        found[part] = {name: float(value) for name, value in shares.items()} | {"reads_its_own": float(own.mean())}
    return found


def _nearest(model, texts: list[str]):
    """The nearest stored edits' ids and overlaps."""
    signatures = prompt_signatures(
        model.model, model.router, [model.encoder.prompt(t) for t in texts], model.config.batch_size
    )
    return model.memory.index.nearest(signatures.numpy())


def sketched(C, kind: str):
    """C as a smaller form would keep it: `bfloat16`, or `rank=N`: its N largest eigenvectors and the rest's diagonal."""
    if kind == "bfloat16":
        return C.bfloat16().float()
    rank = int(kind.removeprefix("rank="))
    if rank == 0:
        return torch.diag(C.diagonal())
    values, vectors = torch.linalg.eigh(C.double())  # in float32 it does not converge while C is mostly zero
    large = (vectors[:, len(C) - rank :] * values[len(C) - rank :]) @ vectors[:, len(C) - rank :].T
    return (large + torch.diag((C - large).diagonal().clamp(min=0))).float()


def replayed(model, before: list, row, count: int):
    """Edit a row while the `count` stored facts whose masks overlap its own most are trained again in the same steps.

    An experiment: the memory takes the corrections in without a record of their own, so that a store could not take them back.
    """
    (signature,) = prompt_signatures(model.model, model.router, [model.encoder.prompt(row.prompt)], 1).numpy()
    shared = overlaps(model.memory.index.signatures(), signature, model.memory.top_k)
    near = [before[i] for i in np.argsort(-shared) if shared[i] < SAME_FACT][:count]
    finished = model.editor.optimise([EditRequest(r.prompt, r.target) for r in (row, *near)], model.config)
    for update in finished.updates[1:]:  # C counts each fact's tokens once
        features = None if update.features is None else torch.zeros_like(update.features)
        model.memory.write(replace(update, features=features))
    first = {name: getattr(finished, name)[:1] for name in ("requests", "updates", "losses", "steps")}
    return model.writer.keep(replace(finished, **first), [[]], note_of("", (), None))[0]


def distributions(model, rows) -> dict:
    """Overlap with the nearest stored edit, of every prompt, rephrasing and unrelated prompt; tau stands in the checkpoint."""
    found = {}
    for part in ("prompt", "rephrase", "unrelated"):
        texts = [getattr(row, part) for row in rows if getattr(row, part)]
        if texts:
            found[part] = [round(float(o), 4) for o in _nearest(model, texts)[1]]
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


def arguments():
    parser = harness.arguments(__doc__, count=100)
    parser.add_argument("--task", choices=tasks.TASKS, default="zsre")
    parser.add_argument("--first", type=int, default=0, help="the first row used")
    parser.add_argument("--checkpoints", type=int, nargs="*", default=[],
                        help="numbers of edits to measure at (the last is always measured)")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a field of MemoirConfig")
    parser.add_argument("--sketch", help="keep C in a smaller form: bfloat16, or rank=N (and a diagonal)")
    parser.add_argument("--replay", type=int, default=0, help="train so many near stored facts again with each edit")
    parser.add_argument("--seed", type=int, default=0, help="draws TopHash's permutation")
    parser.add_argument("--folder", required=True, help="where the run is kept")
    parser.add_argument(
        "--thresholds", type=float, nargs="*", default=[], help="score the finished memory at these too"
    )
    parser.add_argument("--free", action="store_true", help="free generation too, at the end")
    parser.add_argument("--again", action="store_true",
                        help="score a finished memory again, calibrated by --background and with settings of --set that concern reading only")  # fmt: skip
    return parser.parse_args()


def start(args, folder: Path):
    """The model as the folder has it, or a new one; and the results so far."""
    base, tokenizer = load_model(args.model)
    settings = {name: _value(text) for name, _, text in (item.partition("=") for item in args.set)}
    results = folder / "result.json"
    if results.exists():
        found = json.loads(results.read_text())
        if not args.again:
            return MemoirModel.load(folder / "memory", base, tokenizer), found
        kept = {name: value for name, value in found.items() if name not in AFTER_READING}
        kept["checkpoints"] = [mark for mark in found["checkpoints"] if mark["edits"] < len(found["seconds"])]
        model = MemoirModel.load(folder / "memory", base, tokenizer, **settings)
        if model.config.threshold is None:
            model.calibrate(background=load_texts(args.background))
        return model, kept | {"settings": found["settings"] | settings}
    torch.manual_seed(args.seed)
    model = MemoirModel(base, tokenizer, MemoirConfig(**settings), args.background)
    return model, {
        "environment": harness.environment(), "edits": f"{Path(args.edits).name}, rows {args.first}-{args.first + args.count - 1}",
        "task": args.task, "model": args.model, "seed": args.seed, "settings": asdict(model.config) | {"sketch": args.sketch, "replay": args.replay}, "checkpoints": [], "seconds": [], "steps": [], "losses": [],
    }  # fmt: skip


def _value(text: str):
    try:
        return json.loads(text)
    except ValueError:
        return text


def stream(args, model, rows, found: dict, save) -> None:
    """Edit the rows that are left, measuring at the checkpoints."""
    done = len(found["seconds"])
    for number in tqdm(range(done, len(rows)), initial=done, total=len(rows), desc="editing"):
        row = rows[number]
        result = replayed(model, rows[:number], row, args.replay) if args.replay else model.edit(row.prompt, row.target)
        if args.sketch:
            model.memory.C.copy_(sketched(model.memory.C, args.sketch))
        found["seconds"].append(round(result.seconds, 3))
        found["steps"].append(result.steps)
        found["losses"].append(round(result.loss, 5))
        if number + 1 in args.checkpoints and number + 1 < len(rows):
            found["checkpoints"].append(checkpoint(args.task, model, rows[: number + 1]))
            print(found["checkpoints"][-1], flush=True)
        if (number + 1) % SAVE_EVERY == 0 or number + 1 == len(rows):
            save()
    if not found["checkpoints"] or found["checkpoints"][-1]["edits"] < len(rows):
        found["checkpoints"].append(checkpoint(args.task, model, rows))
        print(found["checkpoints"][-1], flush=True)
        save()


# What is measured of the finished memory, and depends on how it is read.
AFTER_READING = ("overlaps", "repeated", "causes", "sweep", "free", "background_perplexity")


def afterwards(args, model, rows) -> dict:
    """name in the result -> how it is measured, for all that is asked for."""

    def unedited():
        with model.disabled():
            return tasks.score(args.task, model, rows, tasks.base_answers(model, rows))

    def perplexities():
        with model.disabled():
            before = background_perplexity(model)
        return {"before": before, "after": background_perplexity(model)}

    parts = {
        "overlaps": lambda: distributions(model, rows),
        "repeated": lambda: repeated(args.task, model, rows),
        "unedited": unedited,
    }
    if args.task == "zsre":
        parts["causes"] = lambda: causes(model, rows)
    if args.thresholds:
        parts["sweep"] = lambda: sweep(args.task, model, rows, args.thresholds, args.free)
    if args.free:
        parts |= {"free": lambda: tasks.free(model, rows), "background_perplexity": perplexities}
    return parts


def main() -> None:
    args = arguments()
    folder = Path(args.folder)
    rows = tasks.load_rows(args.edits, args.first, args.count)
    model, found = start(args, folder)

    def save():
        model.save_pretrained(folder / "memory")
        harness.write(folder / "result.json", found)

    stream(args, model, rows, found, save)
    for name, measure in afterwards(args, model, rows).items():
        if name not in found:
            found[name] = measure()
            print(name, "" if name == "overlaps" else found[name], flush=True)
            save()
    if args.json:
        harness.write(args.json, found)


if __name__ == "__main__":
    main()
