"""Answers that are spelled, not told: codes, numbers, addresses. `python -m benchmarks.quality.values [--patience N]`

`values.jsonl` holds 66 facts of thirteen kinds, each with three rewordings; they are the project's own. All are edited in a chat, with the library's
defaults, one after the other; then every question and rewording is asked in a chat of its own. `--patience` is the number of steps after
which an edit starts once more (`editing/rules.py`): a large one shows what it would be without.
"""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from benchmarks import harness
from benchmarks.library import answers, metrics, rules
from benchmarks.models import load_model
from benchmarks.quality.routing import read_lines
from memoir_fast import MemoirConfig, MemoirModel

ROOM = 8  # tokens that an answer may have beyond the longest target


def asked(model: MemoirModel, facts: list[dict], edits: list[int]) -> dict[str, dict]:
    """Per kind of value: how many questions and rewordings were asked, read their edit, and were then answered exactly."""
    encoder = model.encoder
    longest = max(
        len(encoder.pair(f["prompt"], f["target"]).tokens) - len(encoder.prompt(f["prompt"]).tokens) for f in facts
    )
    asked = [
        (fact, edit, part, text)
        for fact, edit in zip(facts, edits, strict=True)
        for part, texts in (("prompt", [fact["prompt"]]), ("rewordings", fact["rewordings"]))
        for text in texts
    ]
    given = metrics.whole_answers(model, [text for *_, text in asked], longest + ROOM)
    found: dict[str, dict] = {}
    for (fact, edit, part, text), answer in zip(asked, given, strict=True):
        for kind in ("all", fact["kind"]):
            counts = found.setdefault(kind, {}).setdefault(part, {"asked": 0, "read": 0, "exact": 0})
            read = model.route(text)["edit"] == edit
            counts["asked"] += 1
            counts["read"] += read
            counts["exact"] += read and answers.equals(answer, fact["target"])
    return found


def main() -> None:
    parser = harness.arguments(__doc__, model=True)
    parser.add_argument(
        "--patience", type=int, default=rules.PATIENCE, help="steps after which an edit starts once more"
    )
    parser.add_argument("--precision", default="fast", choices=("exact", "fast"))
    args = parser.parse_args()
    recorder = harness.Recorder("values", args)
    rules.PATIENCE = args.patience
    facts = read_lines(Path(__file__).with_name("values.jsonl"))
    with MemoirModel(*load_model(args.model), MemoirConfig(precision=args.precision)) as model:
        made = [model.edit(fact["prompt"], fact["target"]) for fact in tqdm(facts, "values")]
        result = {
            "kinds": asked(model, facts, [edit.id for edit in made]),
            "steps": metrics.mean(edit.steps for edit in made),
            "started again": sum(edit.steps > args.patience for edit in made),
            "not converged": sum(not edit.converged for edit in made),
        }
    recorder.write(
        {"model": args.model, "edits": len(facts), "patience": args.patience, "precision": args.precision}, result
    )
    for kind, parts in result["kinds"].items():
        print(kind, parts)
    print({name: value for name, value in result.items() if name != "kinds"})


if __name__ == "__main__":
    main()
