"""Bytes, operations and time floors of the GPU kernels on A100 and H100: `python -m benchmarks.gpu.roofline`

A calculation, not a measurement: what each operation must move and compute, the time this takes at a chip's published
rates, and the bytes that the kernel's plan (its tiles) asks the memory system for. Registers and shared memory are read
from the compiled kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

from memoir_fast_kernels import aot, masked_matmul, topk_mask

from benchmarks import harness, rows
from benchmarks.speed.ops import SIZES, Size


@dataclass(frozen=True)
class Chip:
    """Published rates: bytes/s of memory, float32 operations/s outside and bfloat16 operations/s in the tensor cores."""

    name: str
    target: str
    bandwidth: float
    fp32: float
    bf16: float


CHIPS = (Chip("A100-80GB SXM", "sm_80", 2.039e12, 19.5e12, 312e12), Chip("H100 SXM", "sm_90", 3.35e12, 67e12, 989e12))
BYTES = {"fp32": 4, "bf16": 2}


@dataclass(frozen=True)
class Work:
    """One call: least bytes and operations, the bytes its tiles ask for, and the compiled case behind it."""

    op: str
    size: str
    dtype: str
    N: int
    bytes: int
    operations: int
    plan_bytes: int
    case: str | None


def tophash(size: Size, batch: int) -> Work:
    read = batch * size.D * 2 + size.D * 8
    written = batch * (4 * size.k + size.D // 8)
    steps = 31 + topk_mask.tophash_config(size.D)["BITS"]  # bisection compares every key once a step
    plan = batch * size.D * (2 + 4 + 4) + 8 * size.D + written
    return Work(
        "tophash", size.name, "bf16", batch, read + written, batch * size.D * steps, plan, f"tophash D={size.D} bf16"
    )


def product(size: Size, rows: int, x: str, V: str) -> Work:
    """Rows that share one mask."""
    weight, activations = size.k * size.d * BYTES[V], rows * (size.k + size.d) * BYTES[x]
    if rows <= masked_matmul.DECODE_ROWS:
        config = masked_matmul.decode_config(size.d)
        name, strips, reads = "decode", -(-size.d // config["BLOCK_N"]), rows
        configs = masked_matmul.DECODE_CONFIGS
    else:
        mode = "half" if x == V else "tf32"
        config = masked_matmul.prefill_config(rows, 1, mode)
        name, strips, reads = "prefill", -(-size.d // config["BLOCK_N"]), -(-rows // config["BLOCK_M"])
        configs = masked_matmul.PREFILL_CONFIGS[mode]
    plan = reads * weight + strips * rows * size.k * BYTES[x] + rows * size.d * BYTES[x]
    # The mask, read by each program (decode), or the active features, gathered once (prefill).
    plan += 4 * strips * rows * size.k if name == "decode" else rows * size.k * (2 * BYTES[x] + 4)
    return Work("masked_matmul", size.name, f"{x} x {V}", rows, weight + activations, 2 * rows * size.k * size.d, plan,
                f"{name} {configs.index(config)} {x} x {V}")  # fmt: skip


def scatter(size: Size, n: int) -> Work:
    inputs, target = 4 * n * (size.k + size.d), 8 * size.k * size.d
    plan = inputs + target + 8 * size.k * size.d  # the gradient is written, then read
    return Work("masked_scatter_", size.name, "fp32", n, inputs + target, 2 * n * size.k * size.d, plan, None)


def works() -> list[Work]:
    found = []
    for size in SIZES:
        found += [tophash(size, batch) for batch in (1, 8)]
        found += [
            product(size, rows, x, V) for rows in (1, 8, 256, 2048) for x, V in (("bf16", "fp32"), ("bf16", "bf16"))
        ]
        found.append(scatter(size, 256))
    return found


def row(work: Work, chip: Chip, resources: dict) -> dict:
    rate = chip.bf16 if work.dtype == "bf16 x bf16" and work.N > masked_matmul.DECODE_ROWS else chip.fp32
    floor = max(work.bytes / chip.bandwidth, work.operations / rate)
    return {
        "op": work.op, "size": work.size, "dtype": work.dtype, "N": work.N, "chip": chip.name, "bytes": work.bytes,
        "operations": work.operations, "floor_us": round(floor * 1e6, 2), "plan_bytes": work.plan_bytes, "compiled": resources,
    }  # fmt: skip


def llama3_edit(chip: Chip) -> dict:
    """One ZsRE edit of LLaMA-3-8B (layer 27 of 32, n = 244 training tokens, 44 of them targets, 30 steps) in bfloat16.

    A step runs three whole layers and the trimmed last one forward and backward, and the head at target positions; it reads their
    weights twice. The prefix runs 28 layers once.
    """
    tokens, aims, steps, hidden, inner, kv, vocabulary = 244, 44, 30, 4096, 14336, 1024, 128256
    shared, rest = 2 * hidden * kv, 2 * hidden * hidden + 3 * hidden * inner
    layer, head = shared + rest, hidden * vocabulary
    step = 4 * tokens * (3 * layer + shared) + 4 * aims * (rest + head)
    operations, weights = steps * step + 2 * tokens * 28 * layer, steps * 4 * (4 * layer + head) + 2 * 28 * layer
    return {
        "op": "edit of LLaMA-3-8B (calculation)", "chip": chip.name, "operations": operations, "bytes": weights,
        "floor_s": round(max(operations / chip.bf16, weights / chip.bandwidth), 4), "published_s_on_A100": 10.8,
    }  # fmt: skip


def main() -> None:
    parser = harness.arguments(__doc__)
    args = parser.parse_args()
    recorder = harness.Recorder("roofline", args)
    measured = rows.read("gpu_kernels")
    note = f"GPU timings: {len(measured)} runs" if measured else "No GPU timing has been taken: these are calculations."
    print(note)
    found = []
    for chip in CHIPS:
        compiled = {c.name: aot.resources(c.compile(chip.target), chip.target) for c in aot.cases(chip.target)}
        found += [row(work, chip, compiled.get(work.case, {})) for work in works()]
    for r in found:
        print(
            "{chip:<14} {op:<16} {size:<10} {dtype:<12} N={N:<5} floor {floor_us:>8} us, {bytes:>11} bytes, plan {plan_bytes:>12}".format(
                **r
            )
        )
    edits = [llama3_edit(chip) for chip in CHIPS]
    for r in edits:
        print(
            "{chip:<14} {op}: {operations:.3g} operations, {bytes:.3g} bytes, at least {floor_s} s (published: {published_s_on_A100} s)".format(
                **r
            )
        )
    recorder.write({}, {"note": note, "rows": found, "edits": edits})


if __name__ == "__main__":
    main()
