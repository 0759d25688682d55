"""Is a smaller record of what edits read enough? `python -m benchmarks.experiments.forms --data DIR --form own --seed 0`

The memory keeps C, a symmetric D x D matrix, for its newest page, as its largest directions and the diagonal of the rest (`low_rank`). Here it is
kept whole, or brought into another form after each edit of a stream: rounded to bfloat16, its N largest directions and the diagonal of the rest, or
forgotten. The rows of `benchmarks.quality.long_stream` are edited with the
library's defaults; then the model answers freely, as there. The seed draws the memory's permutation and all else that is random.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks import harness
from benchmarks.library import ResidualMemory, Symmetric
from benchmarks.quality import long_stream
from memoir_fast import MemoirModel

FORMS = "own (the library's), float32 (whole), bfloat16, rank=N (and the diagonal of the rest), none"
SPARE, ROUNDS = 16, 3  # directions beyond N that the search for the N largest follows, and how often it multiplies by C


def reduced(C: torch.Tensor, form: str) -> torch.Tensor:
    """C (D, D) float32, positive semidefinite, as a smaller form would keep it. Raises ValueError for a form that is none of FORMS."""
    if form == "none":
        return torch.zeros_like(C)
    if form == "bfloat16":
        return C.bfloat16().float()
    name, _, rank = form.partition("=")
    if name != "rank" or not rank.isdigit():
        raise ValueError(f"form: {form!r} is none of {FORMS}")
    large = _largest(C, int(rank))
    return large + torch.diag((C - large).diagonal().clamp(min=0))


def _largest(C: torch.Tensor, rank: int) -> torch.Tensor:
    """C's part in its `rank` largest directions, by subspace iteration."""
    if rank == 0:
        return torch.zeros_like(C)
    width = min(len(C), rank + SPARE)
    Q = torch.randn(len(C), width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    D = C.double()
    for _ in range(ROUNDS):
        Q = torch.linalg.qr(D @ Q).Q
    values, vectors = torch.linalg.eigh(Q.T @ D @ Q)
    vectors = Q @ vectors[:, width - min(rank, width) :]
    return ((vectors * values[width - min(rank, width) :]) @ vectors.T).float()


def begin(memory: ResidualMemory, form: str) -> None:
    """Have an empty memory keep the whole of C, except in the library's own form."""
    if form != "own":
        memory.form = Symmetric
        memory.reads = Symmetric(memory.in_features)


def keep(memory: ResidualMemory, form: str) -> None:
    """Have a memory go on with a smaller form of its C."""
    if form not in ("own", "float32"):
        memory.reads.put(torch.arange(memory.in_features), reduced(memory.C, form))


def edit(model, rows, form: str) -> dict:
    """Edit rows one after the other; the edits' ids, seconds, steps and losses."""
    found: dict = {name: [] for name in ("ids", *long_stream.SERIES)}
    begin(model.memory, form)
    for _, row in tqdm(rows, desc=form):
        result = model.edit(row.prompt, row.target)
        keep(model.memory, form)
        for name, value in (("ids", result.id), ("seconds", round(result.seconds, 3)), ("steps", result.steps), ("losses", round(result.loss, 5))):  # fmt: skip
            found[name].append(value)
    return found


def main() -> None:
    parser = harness.arguments(__doc__, count=1000)
    parser.add_argument("--data", required=True, help="folder of the JSONL files")
    parser.add_argument("--form", default="own", help=FORMS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drawn", type=int, default=200, help="rows asked that are drawn from all")
    args = parser.parse_args()
    reduced(torch.eye(2), args.form if args.form not in ("own", "float32") else "none")  # refuses what is no form
    recorder = harness.Recorder("forms", args)
    rows = long_stream.interleaved(Path(args.data), args.count)
    model = MemoirModel.from_pretrained(args.model, conflict="supersede", precision="fast", seed=args.seed)
    found = edit(model, rows, args.form)
    result = long_stream.checkpoint(model, rows, found["ids"], True, args.drawn)
    result |= {"mean_steps": statistics.mean(found["steps"]), "median_seconds": statistics.median(found["seconds"])}
    print(json.dumps(result), flush=True)
    settings = {
        "model": args.model,
        "edits": args.count,
        "form": args.form,
        "seed": args.seed,
        "config": asdict(model.config),
    }
    recorder.write(settings, result, {name: found[name] for name in long_stream.SERIES})


if __name__ == "__main__":
    main()
