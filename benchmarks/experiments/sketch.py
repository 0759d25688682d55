"""Is a smaller record of what edits read enough? `python -m benchmarks.experiments.sketch --form bfloat16 --edits zsre.jsonl --folder runs/sketch`

`write="preconditioned"` keeps a D x D matrix C. Here it is brought into a smaller form after each edit of a stream
(`benchmarks.quality.retention` and its options): rounded to bfloat16, or its N largest directions and the diagonal of the rest.
"""

from __future__ import annotations

import torch

from benchmarks.quality import retention


def sketched(C: torch.Tensor, form: str) -> torch.Tensor:
    """C (D, D) float32 as a smaller form would keep it: `bfloat16`, or `rank=N`: its N largest eigenvectors and the rest's diagonal."""
    if form == "bfloat16":
        return C.bfloat16().float()
    rank = int(form.removeprefix("rank="))
    if rank == 0:
        return torch.diag(C.diagonal())
    values, vectors = torch.linalg.eigh(C.double())  # in float32 it does not converge while C is mostly zero
    large = (vectors[:, len(C) - rank :] * values[len(C) - rank :]) @ vectors[:, len(C) - rank :].T
    return (large + torch.diag((C - large).diagonal().clamp(min=0))).float()


def variant(form: str) -> retention.Variant:
    """A stream whose C is kept in a smaller form."""

    def edit(model, before, row):
        result = model.edit(row.prompt, row.target)
        memory = model.memory
        memory.reads.put(torch.arange(memory.in_features), sketched(memory.C, form))
        return result

    return retention.Variant("sketch", edit, {"sketch": form})


def main() -> None:
    parser = retention.arguments(__doc__)
    parser.add_argument("--form", required=True, help="bfloat16, or rank=N (and a diagonal)")
    args = parser.parse_args()
    retention.run(args, variant(args.form))


if __name__ == "__main__":
    main()
