"""Does the newer fact win? `python -m benchmarks.quality.newer --edits zsre.jsonl --count 50`

Facts are edited once; then each again, in the words of its rephrasing and with another fact's target, in a store that supersedes.
Asked are the newer wording and the first one: both should give the latest target, as often as single edits give theirs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tqdm import tqdm

from benchmarks import harness
from benchmarks.library import PLAIN, metrics
from benchmarks.models import load_model
from benchmarks.quality import tasks
from memoir_fast import MemoirConfig, MemoirModel


def main() -> None:
    parser = harness.arguments(__doc__, count=50)
    parser.add_argument("--precision", default="fast")
    args = parser.parse_args()
    rows = tasks.load_rows(args.edits, 0, args.count)
    newer = [rows[(number + 7) % len(rows)].target for number in range(len(rows))]
    base, tokenizer = load_model(args.model)
    recorder, found = harness.Recorder("newer", args), []
    settings = {**PLAIN, "router": "tokens", "precision": args.precision}
    model = MemoirModel(base, tokenizer, MemoirConfig(**settings), args.background)
    with tempfile.TemporaryDirectory() as folder:
        model.create_store(folder)
        for row in tqdm(rows, desc="once"):
            model.edit(row.prompt, row.target)
        asked = {"prompt": [r.prompt for r in rows], "rephrase": [r.rephrase for r in rows]}
        once = {part: accuracy(model, asked[part], [r.target for r in rows]) for part in asked}
        superseded = 0
        for row, target in zip(tqdm(rows, desc="again"), newer, strict=True):
            superseded += len(model.edit(row.rephrase, target).supersedes)
        result = {"single edits": once, "superseded": superseded,
                  "latest, asked in the newer words": accuracy(model, asked["rephrase"], newer),
                  "latest, asked in the first words": accuracy(model, asked["prompt"], newer)}  # fmt: skip
        result["bytes_per_edit"] = sum(path.stat().st_size for path in Path(folder).glob("log-*")) // (2 * len(rows))
        found.append(result)
        print(result, flush=True)
        model.close()
    about = {"edits": harness.edits_of(args), "model": args.model, "precision": args.precision}
    recorder.write(about, {"rows": found})


def accuracy(model, prompts: list[str], targets: list[str]) -> float:
    return metrics.mean(metrics.token_accuracy(model, list(zip(prompts, targets, strict=True))))


if __name__ == "__main__":
    main()
