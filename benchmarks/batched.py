"""Facts edited one at a time, several at a time, and with `fast`: time and quality, `python -m benchmarks.batched --json out.json`"""

from __future__ import annotations

import time
from pathlib import Path

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.base.loading import load_model
from memoir_fast.evaluation.facts import load_facts

from . import harness
from .edit_speed import measured


def main() -> None:
    parser = harness.arguments(__doc__, count=8)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--threshold", type=float, default=0.5)
    args = parser.parse_args()
    facts = load_facts(args.edits, args.count)
    pairs = [(fact.prompt, fact.target) for fact in facts]
    base, tokenizer = load_model(args.model)
    found = {
        "environment": harness.environment(),
        "edits": f"{Path(args.edits).name}, {len(facts)} rows",
        "model": args.model,
        "rows": [],
    }
    permutation = None
    for precision, size in [("exact", size) for size in args.batch_sizes] + [("fast", 1)]:
        model = MemoirModel(base, tokenizer, MemoirConfig(threshold=args.threshold), args.background, permutation)
        permutation = model.memory.permutation.clone()
        began = time.perf_counter()
        results = model.edit_many(pairs, batch_size=size, precision=precision)
        took = time.perf_counter() - began
        found["rows"].append({"precision": precision, "batch_size": size, "s_per_edit": round(took / len(facts), 3),
                              "mean_loss": sum(r.loss for r in results) / len(results), **measured(model, facts)})  # fmt: skip
        print(found["rows"][-1], flush=True)
        model.detach()
    if args.json:
        harness.write(args.json, found)


if __name__ == "__main__":
    main()
