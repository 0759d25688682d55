"""The same edits with the kernels and without, on one permutation: `python -m benchmarks.speed.kernels --edits zsre.jsonl`"""

from __future__ import annotations

from dataclasses import asdict

from benchmarks import harness
from benchmarks.library import PLAIN, load_facts, metrics, ops
from benchmarks.models import load_model
from benchmarks.speed.edit_speed import measured
from memoir_fast import MemoirConfig, MemoirModel


def main() -> None:
    parser = harness.arguments(__doc__, count=10)
    args = parser.parse_args()
    facts = load_facts(args.edits, args.count)
    base, tokenizer = load_model(args.model)
    recorder, found = harness.Recorder("kernels", args), {}
    permutation, answers = None, {}
    for backend in ("auto", "reference"):
        with ops.use_backend(backend):
            served = {op: ops.backend_of(op) for op in ops.OPERATIONS}
            model = MemoirModel(base, tokenizer, MemoirConfig(**PLAIN), args.background, permutation)
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
    settings = {"edits": harness.edits_of(args), "model": args.model, "config": asdict(model.config)}
    recorder.write(settings, found)


if __name__ == "__main__":
    main()
