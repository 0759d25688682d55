"""The GPU kernels against torch on the same device: `python -m benchmarks.gpu.kernels --record`

The decode and prefill kernels are timed in every configuration, so that the launchers' choice can be checked. Times are medians of CUDA
events around single calls, after the values were checked. Elsewhere it says that there is no GPU and ends.
"""

from __future__ import annotations

import statistics

import torch
from memoir_fast_kernels import masked_matmul as product

from benchmarks import harness
from benchmarks.library import ops, reference
from benchmarks.speed.ops import SIZES, Size


def case(size: Size, rows: int, dtype, v_dtype, device: str):
    """x, V, idx, indices, route: all rows share one mask."""
    g = torch.Generator().manual_seed(0)
    x, V = torch.randn(rows, size.D, generator=g), torch.randn(size.D, size.d, generator=g)
    idx = torch.randperm(size.D, generator=g)[: size.k].sort().values.to(device)
    return (
        x.to(device, dtype),
        V.to(device, v_dtype),
        idx,
        idx.int()[None],
        torch.zeros(rows, dtype=torch.int32, device=device),
    )


def rivals(x, V, idx) -> dict:
    """The ways to the same product in plain torch."""
    filled = torch.zeros_like(x).index_copy(1, idx, x.index_select(1, idx)).to(V.dtype)
    return {
        "dense over a zero-filled input": lambda: filled @ V,
        "index_select, matmul": lambda: x.index_select(1, idx).to(V.dtype) @ V.index_select(0, idx),
    }


def check(got, want) -> None:
    error = float((got.float() - want.float()).abs().max() / want.float().abs().max())
    assert error < 3e-2, f"off by {error}"


def event_us(call, runs: int) -> float:
    """Median microseconds of one call on the device."""
    for _ in range(5):
        call()
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(runs)]
    for began, ended in pairs:
        began.record()
        call()
        ended.record()
    torch.cuda.synchronize()
    return round(1e3 * statistics.median(a.elapsed_time(b) for a, b in pairs), 2)


def product_rows(size: Size, rows: int, dtype, v_dtype, runs: int) -> list[dict]:
    x, V, idx, indices, route = case(size, rows, dtype, v_dtype, "cuda")
    check(ops.masked_matmul(x, V, indices, route, 1.0), reference.masked_matmul(x, V, indices, route, 1.0))
    torch_us = {name: event_us(call, runs) for name, call in rivals(x, V, idx).items()}
    decode = rows <= product.DECODE_ROWS
    name, chosen = ("decode_config", product.decode_config) if decode else ("prefill_config", product.prefill_config)
    found = []
    for config in product.DECODE_CONFIGS if decode else product.PREFILL_CONFIGS:
        is_default = config == (chosen(size.d) if decode else chosen(rows, 1))
        setattr(product, name, lambda *_, config=config: config)
        try:
            ours = event_us(lambda: ops.masked_matmul(x, V, indices, route, 1.0), runs)
        finally:
            setattr(product, name, chosen)
        found.append({"op": "masked_matmul", "size": size.name, "dtype": f"{dtype} x {v_dtype}".replace("torch.", ""), "N": rows,
                      "config": config, "default": is_default, "ours_us": ours, "torch_us": torch_us})  # fmt: skip
    return found


def scatter_row(size: Size, n: int, runs: int) -> dict:
    g = torch.Generator().manual_seed(0)
    V, A, G = (torch.randn(*s, generator=g).cuda() for s in ((size.D, size.d), (n, size.k), (n, size.d)))
    idx = torch.randperm(size.D, generator=g)[: size.k].sort().values.cuda()
    narrow, expected = idx.int(), V.index_add(0, idx, A.T @ G, alpha=1e-3)
    mine = V.clone()
    ops.masked_scatter_(mine, narrow, A, G, 1e-3)
    check(mine, expected)
    ours = event_us(lambda: ops.masked_scatter_(mine, narrow, A, G, 1e-9), runs)
    theirs = event_us(lambda: V.index_add_(0, idx, A.T @ G, alpha=1e-9), runs)
    return {
        "op": "masked_scatter_",
        "size": size.name,
        "dtype": "float32",
        "N": n,
        "ours_us": ours,
        "torch_us": {"index_add": theirs},
    }


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--runs", type=int, default=50)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("No GPU here: nothing measured.")
        return
    recorder, rows = harness.Recorder("gpu_kernels", args), []
    for size in SIZES:
        for count in (1, 8, 256, 2048):
            for v_dtype in (torch.float32, torch.bfloat16):
                rows += product_rows(size, count, torch.bfloat16, v_dtype, args.runs)
        rows.append(scatter_row(size, 256, args.runs))
    for r in rows:
        print({n: v for n, v in r.items() if n != "runs"})
    recorder.write({"runs": args.runs}, {"rows": rows})


if __name__ == "__main__":
    main()
