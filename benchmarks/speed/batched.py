"""Facts edited one at a time, several at a time, and with `fast`: time and quality, `python -m benchmarks.speed.batched`"""

from __future__ import annotations

import time

from benchmarks import harness
from benchmarks.library import PLAIN, load_facts
from benchmarks.models import load_model
from benchmarks.speed.edit_speed import measured
from memoir_fast import MemoirConfig, MemoirModel


def main() -> None:
    parser = harness.arguments(__doc__, count=8)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--threshold", type=float, default=0.5)
    args = parser.parse_args()
    facts = load_facts(args.edits, args.count)
    pairs = [(fact.prompt, fact.target) for fact in facts]
    base, tokenizer = load_model(args.model)
    recorder, rows = harness.Recorder("batched", args), []
    permutation = None
    for precision, size in [("exact", size) for size in args.batch_sizes] + [("fast", 1)]:
        model = MemoirModel(
            base, tokenizer, MemoirConfig(**PLAIN, threshold=args.threshold), args.background, permutation
        )
        permutation = model.memory.permutation.clone()
        began = time.perf_counter()
        results = model.edit_many(pairs, batch_size=size, precision=precision)
        took = time.perf_counter() - began
        rows.append({"precision": precision, "batch_size": size, "s_per_edit": round(took / len(facts), 3),
                              "mean_loss": sum(r.loss for r in results) / len(results), **measured(model, facts)})  # fmt: skip
        print(rows[-1], flush=True)
        model.detach()
    settings = {"edits": harness.edits_of(args), "model": args.model, "threshold": args.threshold}
    recorder.write(settings, {"rows": rows})


if __name__ == "__main__":
    main()
