"""The GPU kernels against torch on the same device: `python -m benchmarks.gpu.kernels --record`

Two times of each: `us` is the device's own, of calls recorded in a CUDA graph and replayed (what vLLM does when it decodes), over enough
copies of the weights that none is still in the cache; `call_us` is that of single calls from Python, the host's work included. The
decode and prefill kernels are timed in every configuration, so that the launchers' choice can be checked. Values are checked first.
`of_copy` and `of_matmul` are the shares of what a plain copy moves, and of what a product of whole matrices computes, on this device in
this run. Elsewhere it says that there is no GPU and ends.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from memoir_fast_kernels import masked_matmul as product

from benchmarks import harness
from benchmarks.library import ops, reference
from benchmarks.speed.ops import SIZES, Size

BEYOND_CACHE = 256 << 20  # bytes of weights that the calls of one graph go through in turn


def case(size: Size, rows: int, dtype, v_dtype, device: str, masks: int = 1):
    """x, V, indices, route: runs of rows that share a mask, as the tokens of a prompt do."""
    g = torch.Generator().manual_seed(0)
    x, V = torch.randn(rows, size.D, generator=g), torch.randn(size.D, size.d, generator=g)
    drawn = [torch.randperm(size.D, generator=g)[: size.k].sort().values for _ in range(masks)]
    route = torch.arange(rows, dtype=torch.int32) * masks // rows
    return x.to(device, dtype), V.to(device, v_dtype), torch.stack(drawn).int().to(device), route.int().to(device)


def rivals(x, indices, route) -> dict:
    """The ways to the same product in plain torch, of V."""
    masks, rows, lines = len(indices), len(x), indices.long()
    kept = torch.zeros(masks, x.shape[1], dtype=x.dtype, device=x.device).scatter_(1, lines, 1)[route.long()]
    each = rows // masks

    def gathered(V):
        active = x.view(masks, each, -1).gather(2, lines[:, None].expand(-1, each, -1)).to(V.dtype)
        return (active @ V[lines]).view(rows, -1)

    return {
        "dense over a masked input": lambda V: (x * kept).to(V.dtype) @ V,
        "index_select, matmul": gathered if masks > 1 else lambda V: x.index_select(1, lines[0]).to(V.dtype) @ V.index_select(0, lines[0]),
    }  # fmt: skip


def check(got, want) -> None:
    error = float((got.float() - want.float()).abs().max() / want.float().abs().max())
    assert error < 3e-2, f"off by {error}"


def event_us(call: Callable, runs: int) -> float:
    """Median microseconds of one call from Python."""
    for _ in range(5):
        call()
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(runs)]
    for began, ended in pairs:
        torch.cuda.synchronize()
        began.record()
        call()
        ended.record()
    torch.cuda.synchronize()
    return round(1e3 * statistics.median(a.elapsed_time(b) for a, b in pairs), 2)


def graph_us(call: Callable, weights: list, runs: int) -> float:
    """Median microseconds of one call in a replayed graph that calls it with each of `weights` in turn."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            call(weights[0])
    torch.cuda.current_stream().wait_stream(aside)
    graph, rounds = torch.cuda.CUDAGraph(), max(1, 32 // len(weights))
    with torch.cuda.graph(graph):
        for _ in range(rounds):
            for some in weights:
                call(some)
    return round(event_us(graph.replay, runs) / (rounds * len(weights)), 2)


def copies(V: torch.Tensor) -> list:
    return [V, *(V.clone() for _ in range(min(31, BEYOND_CACHE // (V.numel() * V.element_size()))))]


def copy_rate(runs: int) -> float:
    """Bytes a second, read and written, of a copy of 1 GiB."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / (event_us(lambda: target.copy_(source), runs) * 1e-6)


def product_rows(size: Size, rows: int, masks: int, v_dtype, runs: int, rate: float) -> list[dict]:
    """One row for each configuration that a launcher may take, of a bfloat16 x."""
    x, V, indices, route = case(size, rows, torch.bfloat16, v_dtype, "cuda", masks)
    want, weights = reference.masked_matmul(x, V, indices, route, 1.0), copies(V)
    torch_us, torch_call_us = {}, {}
    for name, call in rivals(x, indices, route).items():
        check(call(V), want)
        torch_us[name], torch_call_us[name] = graph_us(call, weights, runs), event_us(lambda call=call: call(V), runs)
    block = [w.index_select(0, indices[0].long()) for w in weights]
    dense = graph_us(lambda b: x[:, : size.k].to(b.dtype) @ b, block, runs)
    decode = rows <= product.DECODE_ROWS
    name, chosen, default = config_of(size, rows, masks, x, V)
    configs = (
        product.DECODE_CONFIGS if decode else product.PREFILL_CONFIGS[product.mode_of(x, V)] if masks > 1 else [{}]
    )
    found = []
    for config in configs:
        setattr(product, name, lambda *_, config=config: config)
        try:
            check(ops.masked_matmul(x, V, indices, route, 1.0), want)
            ours = graph_us(lambda v: ops.masked_matmul(x, v, indices, route, 1.0), weights, runs)
            call_us = event_us(lambda: ops.masked_matmul(x, V, indices, route, 1.0), runs)
        finally:
            setattr(product, name, chosen)
        moved = masks * size.k * size.d * V.element_size() + rows * (size.k + size.d) * x.element_size()
        share = {"of_copy": round(moved / (ours * 1e-6) / rate, 3)} if decode else {"of_matmul": round(dense / ours, 3)}
        found.append({"op": "masked_matmul", "size": size.name, "dtype": f"{x.dtype} x {v_dtype}".replace("torch.", ""), "N": rows,
                      "masks": masks, "config": config, "default": config in ({}, default), "us": ours, "call_us": call_us,
                      "torch_us": torch_us, "torch_call_us": torch_call_us, "matmul_us": dense, **share})  # fmt: skip
    return found


def config_of(size: Size, rows: int, masks: int, x, V) -> tuple:
    """The name of the launcher's choice, the function, and what it chooses."""
    if rows <= product.DECODE_ROWS:
        return "decode_config", product.decode_config, product.decode_config(size.d)
    return "prefill_config", product.prefill_config, product.prefill_config(rows, masks, product.mode_of(x, V))


def scatter_row(size: Size, n: int, runs: int) -> dict:
    """The scatter gives the gradient's squared norm too, which its rival has to add up."""
    g = torch.Generator().manual_seed(0)
    V, A, G = (torch.randn(*s, generator=g).cuda() for s in ((size.D, size.d), (n, size.k), (n, size.d)))
    idx = torch.randperm(size.D, generator=g)[: size.k].sort().values.cuda()
    narrow, expected = idx.int(), V.index_add(0, idx, A.T @ G, alpha=1e-3)

    def rival(V):
        gradient = A.T @ G
        V.index_add_(0, idx, gradient, alpha=1e-9)
        return gradient.square().sum()

    mine = V.clone()
    squared = ops.masked_scatter_(mine, narrow, A, G, 1e-3)
    check(mine, expected)
    check(squared, rival(V.clone()))
    weights = copies(V)
    row = {"op": "masked_scatter_", "size": size.name, "dtype": "float32", "N": n}
    for name, call in (("us", lambda v: ops.masked_scatter_(v, narrow, A, G, 1e-9)), ("torch_us", rival)):
        row[name] = graph_us(call, weights, runs)
        row[name.replace("us", "call_us")] = event_us(lambda call=call: call(mine), runs)
    row["matmul_us"] = graph_us(lambda a: a.T @ G, [A], runs)
    return row


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--runs", type=int, default=30)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("No GPU here: nothing measured.")
        return
    recorder, rows, rate = harness.Recorder("gpu_kernels", args), [], copy_rate(args.runs)
    for size in SIZES:
        for count, masks in ((1, 1), (8, 1), (8, 8), (256, 1), (2048, 1), (2048, 8)):
            for v_dtype in (torch.float32, torch.bfloat16):
                rows += product_rows(size, count, masks, v_dtype, args.runs, rate)
        rows.append(scatter_row(size, 256, args.runs))
    for r in rows:
        print(r, flush=True)
    recorder.write({"runs": args.runs}, {"copy_bytes_per_second": rate, "rows": rows})


if __name__ == "__main__":
    main()
