"""The operations against the fastest plain-torch way to the same values: `python -m benchmarks.speed.ops`.

Each row is checked before it is timed. `torch_us` is the fastest of the rivals in `rivals_us`, `ratio` is that rival's time over ours
(above 1: ours is faster), `floor_us` is the time that a plain read of the row's bytes takes on this machine in the same
run, or for the scatter that its matrix product takes, whichever is larger.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from benchmarks import harness
from benchmarks.library import ops, reference
from benchmarks.timing import interleaved, median_us, ratio


@dataclass(frozen=True)
class Size:
    name: str
    D: int
    d: int
    k: int


SIZES = (Size("smollm2", 1536, 576, 440), Size("llama3-8b", 14336, 4096, 4096))


def _draw(*shape, seed: int, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _mask(size: Size) -> torch.Tensor:
    return torch.randperm(size.D, generator=torch.Generator().manual_seed(5))[: size.k].sort().values


def _row(op, size, dtype, N, calls, floor, runs, **more) -> dict:
    """`calls`: "ours" and its rivals; `floor`: a function whose time is the floor."""
    seconds = interleaved({**calls, "floor": floor}, runs)
    rivals = {name: median_us(taken) for name, taken in seconds.items() if name not in ("ours", "floor")}
    best = min(rivals, key=rivals.get)
    return {
        "op": op, "size": size.name, "dtype": str(dtype).removeprefix("torch."), "N": N,
        "ours_us": median_us(seconds["ours"]), "torch_us": rivals[best],
        "ratio": ratio(seconds[best], seconds["ours"]), "floor_us": median_us(seconds["floor"]),
        "rivals_us": rivals, "runs": runs, **more,
    }  # fmt: skip


# ---- tophash -----------------------------------------------------------------------------------------------------


def _torch_tophash(features, background, permutation, k, powers):
    """The fastest sequence in torch; which of equal magnitudes it takes is left open."""
    chosen = (features - background).abs().topk(k, dim=1, sorted=False).indices
    indices = permutation[chosen]
    bits = torch.zeros(len(features), powers.shape[0] * 8, dtype=torch.uint8).scatter_(1, indices, 1)
    signature = (bits.view(len(features), -1, 8) * powers).sum(2, dtype=torch.uint8)
    return bits, signature


def tophash(size: Size, dtype, batch: int, runs: int) -> dict:
    features = _draw(batch, size.D, seed=1, dtype=dtype)
    background = _draw(size.D, seed=2)
    permutation = torch.randperm(size.D, generator=torch.Generator().manual_seed(3)).int()
    long, powers = permutation.long(), (2 ** torch.arange(8)).to(torch.uint8).expand(-(-size.D // 8), 8).contiguous()
    ours = partial(ops.tophash, features, background, permutation, size.k)
    rival = partial(_torch_tophash, features, background, long, size.k, powers)
    want, got = reference.tophash(features, background, permutation, size.k), ours()
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1]), "tophash differs from the reference"
    assert batch * size.k == int(rival()[0].sum())
    return _row("tophash", size, dtype, batch, {"ours": ours, "sub, abs, topk, scatter, pack": rival},
                partial(torch.sum, features), runs)  # fmt: skip


# ---- masked product ----------------------------------------------------------------------------------------------


def masked_matmul(size: Size, dtype, rows: int, runs: int) -> dict:
    x, V, idx = _draw(rows, size.D, seed=1, dtype=dtype), _draw(size.D, size.d, seed=2, dtype=dtype), _mask(size)
    indices, route = idx.int()[None], torch.zeros(rows, dtype=torch.int32)
    filled = torch.zeros_like(x).index_copy(1, idx, x.index_select(1, idx))
    calls = {
        "ours": partial(ops.masked_matmul, x, V, indices, route, 0.5),
        "dense over a zero-filled input": lambda: (filled @ V).mul_(0.5),
        "index_select, matmul": lambda: (x.index_select(1, idx) @ V.index_select(0, idx)).mul_(0.5),
    }
    want = (x[:, idx].double() @ V[idx].double()) * 0.5
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    error = float((calls["ours"]().double() - want).abs().max() / want.abs().max())
    assert error < tolerance, f"masked_matmul is off by {error}"
    bytes_read = size.k * size.d * V.element_size()
    whole = V.view(torch.int32)[: size.k]  # as many bytes, one after the other
    threads = torch.get_num_threads()
    return _row("masked_matmul", size, dtype, rows, calls, _plain_read(whole), runs, bytes=bytes_read, threads=threads)


def block_matmul(size: Size, dtype, rows: int, runs: int) -> dict:
    """With blocks gathered from V, as readers do; V's own product is among the rivals."""
    x, V, idx = _draw(rows, size.D, seed=1, dtype=dtype), _draw(size.D, size.d, seed=2), _mask(size)
    indices, route, blocks = idx.int()[None], torch.zeros(rows, dtype=torch.int32), V[idx][None]
    calls = {
        "ours": partial(ops.block_matmul, x, blocks, indices, route, 1.0),
        "masked_matmul": partial(ops.masked_matmul, x, V, indices, route, 1.0),
        "index_select, matmul": lambda: (x.index_select(1, idx).float() @ blocks[0]).to(dtype),
    }
    want = x[:, idx].double() @ V[idx].double()
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    error = float((calls["ours"]().double() - want).abs().max() / want.abs().max())
    assert error < tolerance, f"block_matmul is off by {error}"
    threads = torch.get_num_threads()
    return _row(
        "block_matmul", size, dtype, rows, calls, _plain_read(blocks), runs, bytes=blocks.nbytes, threads=threads
    )


def _plain_read(tensor: torch.Tensor):
    """A sum over the words of a tensor: reads every byte once, with torch's threads, and keeps nothing."""
    flat = tensor.reshape(-1).view(torch.float32)
    return partial(torch.sum, flat)


# ---- masked scatter ----------------------------------------------------------------------------------------------


def masked_scatter_(size: Size, dtype, n: int, runs: int) -> dict:
    A, G = _draw(n, size.k, seed=1, dtype=dtype), _draw(n, size.d, seed=2, dtype=dtype)
    idx = _mask(size)
    V, rival_V = _draw(size.D, size.d, seed=3), _draw(size.D, size.d, seed=3)
    wide_A, wide_G, narrow = A.float(), G.float(), idx.int()
    expected = V.double().index_add(0, idx, 1e-3 * (A.double().T @ G.double()))
    squared = ops.masked_scatter_(V, narrow, A, G, 1e-3)
    assert torch.allclose(V.double(), expected, atol=1e-4), "masked_scatter_ is off"
    assert abs(float(squared) / float((A.double().T @ G.double()).square().sum()) - 1) < 1e-3
    calls = {
        "ours": partial(ops.masked_scatter_, V, narrow, A, G, 1e-9),
        "index_add of A.T @ G in float32": lambda: rival_V.index_add_(0, idx, wide_A.T @ wide_G, alpha=1e-9),
    }
    out = torch.empty(size.k, size.d)
    return _row("masked_scatter_", size, dtype, n, calls, lambda: torch.mm(wide_A.T, wide_G, out=out), runs)


CASES = {
    tophash: ((torch.float32, (1, 8)), (torch.bfloat16, (1, 8))),
    masked_matmul: ((torch.float32, (1, 32, 256)), (torch.bfloat16, (1,))),
    block_matmul: ((torch.float32, (1, 8, 32, 256)), (torch.bfloat16, (1,))),
    masked_scatter_: ((torch.float32, (256,)), (torch.bfloat16, (256,))),
}


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--runs", type=int, default=30, help="timed calls of each candidate")
    parser.add_argument("--size", choices=[s.name for s in SIZES], help="only this size")
    parser.add_argument("--op", choices=[f.__name__ for f in CASES], help="only this operation")
    args = parser.parse_args()
    recorder, rows = harness.Recorder("ops", args), []
    for size in SIZES:
        for case, kinds in CASES.items():
            if args.size in (None, size.name) and args.op in (None, case.__name__):
                for dtype, counts in kinds:
                    for count in counts:
                        runs = args.runs if size.name == "llama3-8b" else 5 * args.runs
                        rows.append(case(size, dtype, count, runs))
                        print("{op:<16} {size:<10} {dtype:<9} N={N:<4} ours {ours_us:>10} us, torch {torch_us:>10} us, "
                              "ratio {ratio:>6}, floor {floor_us:>9} us".format(**rows[-1]), flush=True)  # fmt: skip
    settings = {"runs": args.runs, **({"partial": [args.size, args.op]} if args.size or args.op else {})}
    recorder.write(settings, {"rows": rows})


if __name__ == "__main__":
    main()
