"""Sections on GPUs: what kernels took on one, and the calculations that no run stands behind."""

from __future__ import annotations

from pathlib import Path

from benchmarks.results_page.speed import last
from benchmarks.results_page.text import source_line, table


def sections(results: Path) -> list[str]:
    return [*timed(results), *calculated(results)]


def timed(results: Path) -> list[str]:
    run = last("gpu_kernels", results)
    if run is None:
        return ["## GPU", "", "No GPU time has been measured.", ""]
    products = [r for r in run.result["rows"] if r["op"] == "masked_matmul"]
    kinds = list(dict.fromkeys((r["size"], r["dtype"], r["N"], r["masks"]) for r in products))
    lines = []
    for kind in kinds:
        some = [r for r in products if (r["size"], r["dtype"], r["N"], r["masks"]) == kind]
        ours = next(r for r in some if r["default"])
        best = min(ours["torch_us"].values())
        share = f"{ours['of_copy']:.2f} of a copy" if ours["N"] <= 16 else f"{ours['of_matmul']:.2f} of a plain product"
        lines.append([kind[0], kind[1], str(kind[2]), str(kind[3]), f"{ours['us']}", f"{best}", f"{best / ours['us']:.2f}x", share,
                      f"{ours['call_us']}", f"{min(ours['torch_call_us'].values())}"])  # fmt: skip
    scatter = [[r["size"], str(r["N"]), f"{r['us']}", f"{r['torch_us']}", f"{r['torch_us'] / r['us']:.2f}x"]
               for r in run.result["rows"] if r["op"] == "masked_scatter_"]  # fmt: skip
    rate = run.result["copy_bytes_per_second"] / 1e12
    return [
        "## GPU", "", *source_line(run),
        "`python -m benchmarks.gpu.kernels`. The table compares the library with the faster of two ways in plain torch, in microseconds. \"Ours\" and "
        "\"torch\" are the device's time for one call in a replayed CUDA graph, over weights that are not cached. \"One call\" is the time of a single call "
        "from Python, in which the host's work counts and mostly decides. \"Share\" compares with a plain copy of memory, which moves "
        f"{rate:.1f} TB/s here, or with a plain product. More than a copy's rate is possible if masks have rows in common. A plain product multiplies matrices of "
        "V's dtype without gathering rows; the library is faster than it where V is float32, which the library multiplies in 16 or 19 bits per number.", "",
        *table(["size", "x times V", "rows", "masks", "ours, us", "torch, us", "faster", "share", "one call, us", "torch's, us"], lines),
        "**Below 1x torch is faster.** This is so in bfloat16 in nearly all cases with more than one row, and in SmolLM2's prefill, where the work around "
        "the product takes longer than the product itself. In nearly all rows a single call from Python takes the library longer than torch, because it "
        "launches more kernels. Readers multiply with float32 copies of the memory's rows. When 128 to 511 rows share a mask, the launcher now uses the "
        "first configuration of the row, chosen from these timings, instead of the one shown.", "",
        "The scatter of the gradient, with the sum of its squares:", "",
        *table(["size", "training tokens", "ours, us", "torch, us", "faster"], scatter),
    ]  # fmt: skip


def calculated(results: Path) -> list[str]:
    run = last("roofline", results)
    if run is None:
        return []
    lines = [[r["chip"], f"{r['operations']:.3g}", f"{r['bytes']:.3g}", f"{r['floor_s']:.3f}", f"{r['published_s_on_A100']}"]
             for r in run.result["edits"]]  # fmt: skip
    return [
        "## GPU: calculations", "", *source_line(run),
        "**A calculation, not a measurement** (`python -m benchmarks.gpu.roofline`; the results file has the least time of each operation): the least "
        "possible time of one ZsRE edit of LLaMA-3-8B in bfloat16, given its bytes and operations.", "",
        *table(["chip", "operations", "bytes", "at least, s", "reported for the published editor on an A100, s"], lines),
    ]  # fmt: skip
