"""What a long stream of edits retains: `python -m benchmarks.quality.retention --edits zsre.jsonl --count 100 --folder runs/default`

Edits come one after the other; at each checkpoint the facts so far are measured, and with them the first, middle and last
hundred. A stopped run goes on where it was: the memory and the results so far lie in `--folder`, so a run costs no more than its
missing edits. `benchmarks.quality.peers` measures other methods on the same rows.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from tqdm import tqdm

from benchmarks import harness
from benchmarks.library import PLAIN
from benchmarks.models import load_model
from benchmarks.quality import measures, tasks
from memoir_fast import MemoirConfig, MemoirModel, load_texts

SAVE_EVERY = 25
SERIES = ("seconds", "steps", "losses", "overlaps")  # the long lists, kept beside the row
# What is measured of the finished memory: read in another way, or longer, it has to be measured again.
AFTER_READING = ("overlaps", "repeated", "causes", "sweep", "free", "background_perplexity", "answers", "capability")


def edit_once(model, before: list, row):
    """The library as it is: one edit."""
    return model.edit(row.prompt, row.target)


@dataclass(frozen=True)
class Variant:
    """How a stream is edited: the library as it is, or an experiment.

    Attributes:
        benchmark: names the rows.
        edit: (model, rows before, row) -> `EditResult`.
        settings: what the row says about it beside the library's own settings.
        config: the fields of `MemoirConfig` that --set changes: the published protocol, or {} for the library's defaults.
        afterwards: name in the result -> (model, rows) -> what is measured of the finished memory beside the usual.
    """

    benchmark: str = "retention"
    edit: Callable = edit_once
    settings: dict = field(default_factory=dict)
    config: dict = field(default_factory=lambda: dict(PLAIN))
    afterwards: dict[str, Callable] = field(default_factory=dict)


def arguments(doc: str = __doc__):
    """The options of a stream; experiments add their own."""
    parser = harness.arguments(doc, count=100)
    parser.add_argument("--task", choices=tasks.TASKS, default="zsre")
    parser.add_argument("--first", type=int, default=0, help="the first row used")
    parser.add_argument("--checkpoints", type=int, nargs="*", default=[],
                        help="numbers of edits to measure at (the last is always measured)")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a field of MemoirConfig")
    parser.add_argument("--seed", type=int, default=0, help="draws TopHash's permutation and all else")
    parser.add_argument("--folder", required=True, help="where the run is kept")
    parser.add_argument(
        "--thresholds", type=float, nargs="*", default=[], help="score the finished memory at these too"
    )
    parser.add_argument("--free", action="store_true", help="free generation too, at the end")
    parser.add_argument("--again", action="store_true",
                        help="score a finished memory again, calibrated by --background and with settings of --set that concern reading only")  # fmt: skip
    return parser


def start(args, variant: Variant, commit: str | None):
    """The model as the folder has it, or a new one; and the results so far."""
    base, tokenizer = load_model(args.model)
    settings = {name: _value(text) for name, _, text in (item.partition("=") for item in args.set)}
    folder = Path(args.folder)
    results = folder / "result.json"
    if results.exists():
        found = json.loads(results.read_text())
        if len(found["seconds"]) > args.count:
            raise SystemExit(f"--count {args.count}: the run in {folder} has {len(found['seconds'])} edits already")
        if not args.again:
            if len(found["seconds"]) < args.count:
                found = {name: value for name, value in found.items() if name not in (*AFTER_READING, "unedited")}
            found["settings"]["edits"] = harness.edits_of(args)
            return MemoirModel.load(folder / "memory", base, tokenizer), found
        kept = {name: value for name, value in found.items() if name not in AFTER_READING}
        kept["checkpoints"] = [mark for mark in found["checkpoints"] if mark["edits"] < len(found["seconds"])]
        model = MemoirModel.load(folder / "memory", base, tokenizer, **settings)
        if model.config.threshold is None:
            model.calibrate(background=load_texts(args.background))
        kept["settings"]["config"] |= settings
        return model, kept
    config = MemoirConfig(**{**variant.config, "seed": args.seed, **settings})
    model = MemoirModel(base, tokenizer, config, args.background)
    about = {
        "task": args.task,
        "model": args.model,
        "edits": harness.edits_of(args),
        "seed": args.seed,
        **variant.settings,
    }
    about["config"] = asdict(model.config)
    return model, {
        "commit": commit, "settings": about, "checkpoints": [], "seconds": [], "steps": [], "losses": [],
    }  # fmt: skip


def _value(text: str):
    try:
        return json.loads(text)
    except ValueError:
        return text


def stream(args, variant: Variant, model, facts, found: dict, save) -> None:
    """Edit the rows that are left, measuring at the checkpoints."""
    done = len(found["seconds"])
    for number in tqdm(range(done, len(facts)), initial=done, total=len(facts), desc="editing"):
        result = variant.edit(model, facts[:number], facts[number])
        found["seconds"].append(round(result.seconds, 3))
        found["steps"].append(result.steps)
        found["losses"].append(round(result.loss, 5))
        if number + 1 in args.checkpoints and number + 1 < len(facts):
            found["checkpoints"].append(measures.checkpoint(args.task, model, facts[: number + 1]))
            print(found["checkpoints"][-1], flush=True)
        if (number + 1) % SAVE_EVERY == 0 or number + 1 == len(facts):
            save()
    if not found["checkpoints"] or found["checkpoints"][-1]["edits"] < len(facts):
        found["checkpoints"].append(measures.checkpoint(args.task, model, facts))
        print(found["checkpoints"][-1], flush=True)
        save()


def afterwards(args, variant: Variant, model, facts) -> dict:
    """name in the result -> how it is measured, for all that is asked for."""

    def unedited():
        with model.disabled():
            return tasks.score(args.task, model, facts, tasks.base_answers(model, facts))

    def perplexities():
        with model.disabled():
            before = measures.background_perplexity(model)
        return {"before": before, "after": measures.background_perplexity(model)}

    parts = {
        "overlaps": lambda: measures.distributions(model, facts),
        "repeated": lambda: measures.repeated(args.task, model, facts),
        "unedited": unedited,
    }
    if args.task in tasks.QUESTIONS:
        parts["causes"] = lambda: measures.causes(model, facts)
    if args.thresholds:
        parts["sweep"] = lambda: measures.sweep(args.task, model, facts, args.thresholds, args.free)
    if args.free:
        parts |= {"free": lambda: tasks.free(model, facts), "background_perplexity": perplexities}
    return parts | {name: partial(measure, model, facts) for name, measure in variant.afterwards.items()}


def label(args, variant: Variant) -> str:
    """A run's name where none is given: it has to differ from those of other runs."""
    own = [f"{name}_{value}" for name, value in variant.settings.items()] + [
        item.replace("=", "_") for item in args.set
    ]
    return "_".join([args.task, *own, str(args.first), str(args.count), f"seed{args.seed}"])


def run(args, variant: Variant) -> None:
    """The stream from where its folder has it, all measurements, and the row."""
    args.name = args.name or label(args, variant)
    recorder = harness.Recorder(variant.benchmark, args)
    folder = Path(args.folder)
    facts = tasks.load_rows(args.edits, args.first, args.count)
    model, found = start(args, variant, recorder.commit)
    recorder.goes_on(found["commit"])

    def save():
        model.save_pretrained(folder / "memory")
        aside = folder / "result.json.part"
        aside.write_text(json.dumps(found) + "\n")
        aside.replace(folder / "result.json")

    stream(args, variant, model, facts, found, save)
    for name, measure in afterwards(args, variant, model, facts).items():
        if name not in found:
            found[name] = measure()
            print(name, "" if name == "overlaps" else found[name], flush=True)
            save()
    recorder.write(found["settings"], summary(found), {name: found[name] for name in SERIES})


def summary(found: dict) -> dict:
    """What the row says: everything but the long lists, and their means."""
    short = {name: value for name, value in found.items() if name not in (*SERIES, "settings", "commit")}
    return short | {
        "mean_steps": statistics.mean(found["steps"]),
        "mean_seconds": statistics.mean(found["seconds"]),
        "median_seconds": statistics.median(found["seconds"]),
    }


def main() -> None:
    run(arguments().parse_args(), Variant())


if __name__ == "__main__":
    main()
