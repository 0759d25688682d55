"""The same edits with the kernels and without, on one permutation: `python -m benchmarks.kernels --edits zsre.jsonl --json out.json`"""

from __future__ import annotations

import os
from pathlib import Path

from memoir_fast import MemoirConfig, MemoirModel, ops
from memoir_fast.base.loading import load_model
from memoir_fast.evaluation import metrics
from memoir_fast.evaluation.facts import load_facts

from . import harness
from .edit_speed import measured


def main() -> None:
    parser = harness.arguments(__doc__, count=10)
    args = parser.parse_args()
    facts = load_facts(args.edits, args.count)
    base, tokenizer = load_model(args.model)
    found = {
        "environment": harness.environment(),
        "edits": f"{os.path.basename(args.edits)}, {len(facts)} rows",
        "model": args.model,
    }
    permutation, answers = None, {}
    for backend in ("auto", "reference"):
        with ops.use_backend(backend):
            served = {op: ops.backend_of(op) for op in ops.OPERATIONS}
            model = MemoirModel(base, tokenizer, MemoirConfig(), args.background, permutation)
            permutation = model.memory.permutation.clone()
            losses = [model.edit(fact.prompt, fact.target).loss for fact in facts]
            answers[backend] = metrics.answers(model, [fact.prompt for fact in facts], 16)
            found[backend] = {
                "served": served,
                **measured(model, facts),
                "losses": losses,
                "threshold": model.threshold.median,
            }
            answers[f"{backend}_V"] = model.memory.V * model.memory.scale
            model.detach()
        print(backend, {n: v for n, v in found[backend].items() if n not in ("served", "losses")}, flush=True)
    first, second = answers["auto_V"], answers["reference_V"]
    found["largest_loss_difference"] = max(
        abs(a - b) for a, b in zip(found["auto"]["losses"], found["reference"]["losses"], strict=True)
    )
    found["memory_difference"] = float((first - second).norm() / second.norm())
    found["equal_answers"] = metrics.mean(a == b for a, b in zip(answers["auto"], answers["reference"], strict=True))
    print({n: found[n] for n in ("largest_loss_difference", "memory_difference", "equal_answers")})
    if args.json:
        harness.write(Path(args.json), found)


if __name__ == "__main__":
    main()
