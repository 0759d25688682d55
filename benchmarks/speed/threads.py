"""Whose threads should the CPU kernels use? `python -m benchmarks.speed.threads`

Each step is one torch matrix product followed by one masked product over LLaMA-3's sizes, as in a decoder: the cost of
a second set of threads shows in both. Compared: the workers of torch's own OpenMP runtime (what the library uses), threads
started for the call, and a second OpenMP runtime loaded beside torch's (a copy of the same library).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import harness
from benchmarks.library import ops, threads
from benchmarks.timing import median_us


def step_seconds(runs: int) -> tuple[list[float], list[float]]:
    """Seconds of torch's product and of ours, taken in turns."""
    D, d, k = 14336, 4096, 4096
    g = torch.Generator().manual_seed(0)
    x, V = torch.randn(1, D, generator=g), torch.randn(D, d, generator=g)
    indices, route = torch.randperm(D, generator=g)[:k].sort().values.int()[None], torch.zeros(1, dtype=torch.int32)
    weight, hidden = torch.randn(2048, 2048, generator=g), torch.randn(8, 2048, generator=g)
    theirs, ours = [], []
    for run in range(runs + 3):
        began = time.perf_counter()
        hidden @ weight
        middle = time.perf_counter()
        ops.masked_matmul(x, V, indices, route, 1.0)
        if run >= 3:
            theirs.append(middle - began)
            ours.append(time.perf_counter() - middle)
    return theirs, ours


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--runs", type=int, default=40)
    args = parser.parse_args()
    recorder = harness.Recorder("threads", args)
    own = threads.pool()
    if own == threads.OWN:
        raise SystemExit("torch's OpenMP runtime was not found: nothing to compare")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "libgomp-second.so.1"
        shutil.copy(own, copy)
        for name, path in (
            ("torch's runtime", own),
            (threads.OWN, ""),
            ("a second runtime", str(copy)),
            ("torch's runtime", own),
        ):
            if not threads.use_pool(path):
                raise SystemExit(f"{path} does not load")
            theirs, ours = step_seconds(args.runs)
            rows.append({"threads": name, "torch_us": median_us(theirs), "ours_us": median_us(ours)})
            print("{threads:<18} torch's product {torch_us:>9} us, ours {ours_us:>9} us".format(**rows[-1]), flush=True)
    recorder.write({"runs": args.runs}, {"rows": rows})


if __name__ == "__main__":
    main()
