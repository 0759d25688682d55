"""What stepping around earlier edits costs an edit: `python -m benchmarks.speed.factorise`

The one factorisation of `write.preconditioned` at SmolLM2's and LLaMA-3-8B's mask sizes, against a general solve of the same system, and
what a record of C with a few directions and a diagonal (a low-rank sketch) would take through the Woodbury identity.
"""

from __future__ import annotations

import torch

from benchmarks import harness
from benchmarks.library import preconditioned
from benchmarks.timing import interleaved, median_us, ratio

TOKENS, RANK = 128, 128


def systems(k: int) -> dict:
    """name -> call; each solves (C + lam I) X = A^T for a C of full rank, the sketch for one of rank 128 and a diagonal."""
    draw = torch.Generator().manual_seed(k)
    features = torch.randn(TOKENS, k, generator=draw)
    reads = torch.randn(2 * k, k, generator=draw)
    C = reads.T @ reads
    large, rest = torch.randn(k, RANK, generator=draw), torch.rand(k, generator=draw) + 0.5
    lam = float(features.square().sum(1).mean())

    def scaled(moves):
        return moves * (features.square().sum() / (features * moves).sum())

    def general():
        return scaled(torch.linalg.solve(C + lam * torch.eye(k), features.T).T)

    def woodbury():
        inverse = 1 / (rest + lam)
        inner = torch.eye(RANK) + large.T @ (inverse[:, None] * large)
        right = inverse[:, None] * features.T
        return scaled((right - inverse[:, None] * (large @ torch.linalg.solve(inner, large.T @ right))).T)

    assert torch.allclose(preconditioned(features, C, 1.0), general(), rtol=1e-3, atol=1e-4)
    sketch = large @ large.T + torch.diag(rest)
    assert torch.allclose(preconditioned(features, sketch, 1.0), woodbury(), rtol=1e-3, atol=1e-3)
    return {"cholesky": lambda: preconditioned(features, C, 1.0), "general": general, "woodbury": woodbury}


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    recorder, found = harness.Recorder("factorise", args), {}
    for k in (440, 4096):
        seconds = interleaved(systems(k), args.runs, warmup=1)
        found[f"k={k}"] = {name: {"median_us": median_us(times), "times_faster_than_general": ratio(seconds["general"], times)}
                           for name, times in seconds.items()}  # fmt: skip
        print(k, found[f"k={k}"], flush=True)
    recorder.write({"tokens": TOKENS, "rank": RANK, "runs": args.runs}, found)


if __name__ == "__main__":
    main()
