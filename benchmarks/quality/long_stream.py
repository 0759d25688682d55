"""Do thousands of edits stay? `python -m benchmarks.quality.long_stream --data DIR --count 5000 --folder runs/long`

Rows of four data sets, interleaved in proportion to their sizes, are edited one after the other into a store, in the model's chat template and with
the library's defaults. At every checkpoint the model answers questions freely, each in a chat of its own: those of the first and the last
hundred rows, and of rows drawn from all; at the halves also their rewordings and unrelated questions. Rows whose fact a later row replaced
are counted and not asked. For each group stands how many questions read their own edit: what an answer lost to routing, it did not lose to fading.
A stopped run goes on where it was.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from benchmarks import harness
from benchmarks.library import answers, metrics
from benchmarks.quality import tasks
from memoir_fast import MemoirModel

SETS = ("zsre", "counterfact", "wikibigedit", "qaedit")
HUNDRED, ROOM, ELSEWHERE = 100, 8, 24  # tokens: see `chat.py`
SERIES = ("seconds", "steps", "losses")


def interleaved(data: Path, count: int) -> list[tuple[str, tasks.Row]]:
    """The first rows of all data sets together: (data set, row)."""
    placed = []
    for name in SETS:
        lines = sum(1 for line in (data / f"{name}.jsonl").read_text("utf-8").splitlines() if line.strip())
        rows = tasks.load_rows(data / f"{name}.jsonl", 0, lines)
        placed += [((number + 0.5) / lines, SETS.index(name), row) for number, row in enumerate(rows)]
    placed.sort(key=lambda one: one[:2])
    if len(placed) < count:
        raise SystemExit(f"--count {count}: the data sets have {len(placed)} rows together")
    return [(SETS[number], row) for _, number, row in placed[:count]]


def groups(count: int, drawn: int) -> dict[str, list[int]]:
    """name -> numbers of rows."""
    size, drawn = min(HUNDRED, count), min(drawn, count)
    return {
        "first": list(range(size)),
        "last": list(range(count - size, count)),
        "drawn": sorted(
            random.Random(count).sample(range(count), drawn)
        ),  # evenly spaced ones would be of one data set
    }


def asked(model, facts, ids: list[int], numbers: list[int], whole: bool) -> dict:
    """Free answers of some rows; whole: also of their rewordings and unrelated questions."""
    held = [number for number in numbers if ids[number] in model.edits]
    found: dict = {"rows": len(numbers), "replaced": len(numbers) - len(held)}
    if not held:
        return found
    encoder = model.encoder
    for part in ("prompt", "rephrase") if whole else ("prompt",):
        rows = [(getattr(facts[n][1], part), facts[n][1].target, ids[n]) for n in held if getattr(facts[n][1], part)]
        longest = max(len(encoder.pair(text, target).tokens) - len(encoder.prompt(text).tokens) for text, target, _ in rows)  # fmt: skip
        written = metrics.whole_answers(model, [text for text, _, _ in rows], longest + ROOM)
        pairs = list(zip(written, rows, strict=True))
        found[part] = {
            "exact and ended": metrics.mean(answers.equals(answer, target) for answer, (_, target, _) in pairs),
            "contains": metrics.mean(answers.contains(answer, target) for answer, (_, target, _) in pairs),
            "read": metrics.mean(model.route(text)["edit"] == edit for text, _, edit in rows),
            "by set": {
                name: metrics.mean(right)
                for name in SETS
                if (right := [answers.equals(answer, target) for answer, (_, target, edit) in pairs if facts[ids.index(edit)][0] == name])
            },
        }  # fmt: skip
    if whole:
        texts = [facts[n][1].unrelated for n in held if facts[n][1].unrelated]
        with model.disabled():
            before = metrics.whole_answers(model, texts, ELSEWHERE)
        after = metrics.whole_answers(model, texts, ELSEWHERE)
        found["unrelated"] = metrics.mean(one == other for one, other in zip(before, after, strict=True))
        parts = (found["prompt"]["exact and ended"], found["rephrase"]["exact and ended"], found["unrelated"])
        found["average"] = statistics.mean(parts)
    return found


def checkpoint(model, facts, ids: list[int], whole: bool, drawn: int) -> dict:
    """What is measured after len(ids) edits."""
    found = {name: asked(model, facts, ids, numbers, whole) for name, numbers in groups(len(ids), drawn).items()}
    return {"edits": len(ids), "pages": len(model.memory.pages.held), **found}


def begin(args, folder: Path, commit: str | None):
    """The model with its store, and what was found so far."""
    settings = {"precision": "fast"} | {
        name: json.loads(value) for name, value in (text.split("=") for text in args.set)
    }
    store, results = folder / "store", folder / "result.json"
    model = MemoirModel.from_pretrained(args.model, store=str(store), **({} if store.exists() else settings))
    if results.exists():
        return model, json.loads(results.read_text())
    about = {"model": args.model, "edits": args.count, "sets": SETS, "config": asdict(model.config)}
    return model, {"commit": commit, "settings": about, "checkpoints": [], "ids": [], **{name: [] for name in SERIES}}


def stream(args, model, facts, found: dict, save) -> None:
    """Edit the rows that are left, measuring at the checkpoints."""
    for number in tqdm(range(len(found["ids"]), len(facts)), initial=len(found["ids"]), total=len(facts)):
        row = facts[number][1]
        began = time.perf_counter()
        result = model.edit(row.prompt, row.target, key=str(number))  # so that a run that goes on makes none twice
        found["ids"].append(result.id)
        found["seconds"].append(round(time.perf_counter() - began, 3))
        found["steps"].append(result.steps)
        found["losses"].append(round(result.loss, 5))
        count = number + 1
        if count % args.every == 0 or count == len(facts):
            whole = count in (len(facts) // 2, len(facts))
            found["checkpoints"].append(checkpoint(model, facts, found["ids"], whole, args.drawn if whole else HUNDRED))  # fmt: skip
            print(json.dumps(found["checkpoints"][-1]), flush=True)
        if count % 25 == 0 or count == len(facts):
            save()


def main() -> None:
    parser = harness.arguments(__doc__, count=5000)
    parser.add_argument("--data", required=True, help="folder of the JSONL files")
    parser.add_argument("--folder", required=True, help="where the run is kept")
    parser.add_argument("--every", type=int, default=500, help="edits between two checkpoints")
    parser.add_argument("--drawn", type=int, default=300, help="rows asked that are drawn from all, at the halves")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a field of MemoirConfig")
    args = parser.parse_args()
    recorder, folder = harness.Recorder("long_stream", args), Path(args.folder)
    folder.mkdir(parents=True, exist_ok=True)
    facts = interleaved(Path(args.data), args.count)
    model, found = begin(args, folder, recorder.commit)
    recorder.goes_on(found["commit"])

    def save() -> None:
        aside = folder / "result.json.part"
        aside.write_text(json.dumps(found) + "\n")
        aside.replace(folder / "result.json")

    with model:
        stream(args, model, facts, found, save)
    short = {name: value for name, value in found.items() if name not in (*SERIES, "ids", "settings", "commit")}
    short |= {"mean_steps": statistics.mean(found["steps"]), "median_seconds": statistics.median(found["seconds"])}
    recorder.write(found["settings"], short, {name: found[name] for name in SERIES})


if __name__ == "__main__":
    main()
