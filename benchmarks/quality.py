"""Retention of a stream of edits: `python -m benchmarks.quality --edits zsre.jsonl --count 100 --set write=sgd --folder runs/sgd`

Edits come one after the other; at each checkpoint the facts so far are measured, and with them the first, middle and last
hundred. A stopped run goes on where it was: the memory and the results so far lie in `--folder`. The result is one JSON a run.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from memoir_fast import MemoirConfig, MemoirModel, metrics
from memoir_fast.evaluate import measure
from memoir_fast.facts import load_facts
from memoir_fast.hub import load_model

from . import harness

SAVE_EVERY = 25


def teacher_forced(model, facts) -> dict:
    """Reliability, generalization and locality of some facts."""
    local = [(f.unrelated, f.unrelated_answer) for f in facts if f.unrelated and f.unrelated_answer]
    with model.disabled():
        base = metrics.predictions(model, local)
    reworded = [(f.rephrase, f.target) for f in facts if f.rephrase]
    return {
        "reliability": metrics.mean(metrics.token_accuracy(model, [(f.prompt, f.target) for f in facts])),
        "generalization": metrics.mean(metrics.token_accuracy(model, reworded)) if reworded else None,
        "locality": metrics.mean(metrics.agreement(metrics.predictions(model, local), base)) if local else None,
        "routed_prompts": metrics.mean(model.route(f.prompt)["edit"] is not None for f in facts),
        "routed_rephrasings": metrics.mean(model.route(f.rephrase)["edit"] is not None for f in facts if f.rephrase),
    }


def checkpoint(model, facts) -> dict:
    """The scores after `facts` were edited."""
    found = {"edits": len(facts), "threshold": model.threshold.value, "all": teacher_forced(model, facts)}
    if len(facts) >= 300:
        middle = len(facts) // 2 - 50
        for name, group in (("first", facts[:100]), ("middle", facts[middle : middle + 100]), ("last", facts[-100:])):
            found[name] = teacher_forced(model, group)
    return found


def start(args, folder: Path):
    """The model as the folder has it, or a new one; and the results so far."""
    base, tokenizer = load_model(args.model)
    results = folder / "result.json"
    if results.exists():
        found = json.loads(results.read_text())
        return MemoirModel.load(folder / "memory", base, tokenizer), found
    settings = {name: _value(text) for name, _, text in (item.partition("=") for item in args.set)}
    torch.manual_seed(args.seed)
    model = MemoirModel(base, tokenizer, MemoirConfig(**settings), args.background)
    found = {
        "environment": harness.environment(), "edits": f"{Path(args.edits).name}, rows {args.first}-{args.first + args.count - 1}",
        "model": args.model, "seed": args.seed, "settings": asdict(model.config), "checkpoints": [], "seconds": [], "steps": [], "losses": [],
    }  # fmt: skip
    return model, found


def _value(text: str):
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> None:
    parser = harness.arguments(__doc__, count=100)
    parser.add_argument("--first", type=int, default=0, help="the first row used")
    parser.add_argument(
        "--checkpoints",
        type=int,
        nargs="*",
        default=[],
        help="numbers of edits to measure at (the last is always measured)",
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a field of MemoirConfig")
    parser.add_argument("--seed", type=int, default=0, help="draws TopHash's permutation")
    parser.add_argument("--folder", required=True, help="where the run is kept")
    parser.add_argument("--free", action="store_true", help="free generation too, at the end")
    args = parser.parse_args()
    folder = Path(args.folder)
    facts = load_facts(args.edits, args.first + args.count)[args.first :]
    model, found = start(args, folder)
    marks = sorted({*args.checkpoints, len(facts)})

    def save():
        model.save_pretrained(folder / "memory")
        harness.write(folder / "result.json", found)

    for number in tqdm(
        range(len(found["seconds"]), len(facts)), initial=len(found["seconds"]), total=len(facts), desc="editing"
    ):
        result = model.edit(facts[number].prompt, facts[number].target)
        found["seconds"].append(round(result.seconds, 3))
        found["steps"].append(result.steps)
        found["losses"].append(round(result.loss, 5))
        if number + 1 in marks:
            found["checkpoints"].append(checkpoint(model, facts[: number + 1]))
            print(found["checkpoints"][-1], flush=True)
        if (number + 1) % SAVE_EVERY == 0 or number + 1 == len(facts):
            save()
    if args.free and "free" not in found:
        scores = measure(model, facts)
        found["free"] = {"free_generation": scores["free_generation"], "protocols": scores["protocols"]}
        print(found["free"]["free_generation"], flush=True)
        save()
    if args.json:
        harness.write(args.json, found)


if __name__ == "__main__":
    main()
