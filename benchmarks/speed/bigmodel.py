"""Models of one to three billion parameters edited on this machine, time and memory: `python -m benchmarks.speed.bigmodel`

Random weights in the shapes of TinyLlama-1.1B, Qwen3-1.7B, LLaMA-3-8B cut to 8 layers and (for the path of other families) Gemma-3-1B, made in memory.
Each case has a process of its own: a few edits in a chat with the defaults, checked against autograd; then a memory filled with generated edits and
one more edit. The floor of a step is what its matrix products take by themselves, on the model's own weights. Beside them stands what
`memoir-fast plan` says. With `:disk` the embedding and the layers up to the one with the memory stay on the disk, so that a model larger than memory can be
edited.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from benchmarks import harness
from benchmarks.speed import big_case
from benchmarks.speed.big_shapes import SHAPES

CASES = ("tinyllama-1.1b:bfloat16", "tinyllama-1.1b:float32", "qwen3-1.7b:bfloat16", "qwen3-1.7b:float32", "llama3-8b/8:bfloat16", "llama3-8b/8:bfloat16:disk", "gemma3-1b:bfloat16")  # fmt: skip


def alone(case: str) -> dict[str, Any]:
    """What a process of its own finds for a case; its messages go to the terminal."""
    command = [sys.executable, "-m", "benchmarks.speed.bigmodel", *sys.argv[1:], "--alone", case]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{case}: the process ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def told(found: dict[str, Any]) -> str:
    """A case in a line."""
    return (
        f"{found['shape']} {found['dtype']} ({found['path']}, {found['place']}): {found['step_s']} s a step, floor {found['floor_s']}, ratio {found['ratio']} ({found['ratio_cpu']} by processor time); first "
        f"{found['first_step_s']} s, prefix {found['prefix_s']} s; peak {found['edit_peak_mb']} MB, with {found['stored']} edits "
        f"{found['stored_mb']} MB and {found['stored_edit_peak_mb']} MB while one more is made; record {found['record_bytes']} bytes; off the plan by {found['off']}"
    )


def options() -> argparse.ArgumentParser:
    """The options of the benchmark."""
    parser = harness.arguments(__doc__, count=4)
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="SHAPE:DTYPE[:disk]", help=f"of {', '.join(SHAPES)} and {', '.join(big_case.DTYPES)}")  # fmt: skip
    parser.add_argument("--precision", choices=("exact", "fast"), default="exact")
    parser.add_argument("--record-dtype", choices=tuple(big_case.DTYPES), default="bfloat16")
    parser.add_argument("--stored", type=int, default=1000, help="edits that the filled memory holds")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    args = options().parse_args()
    if args.alone:
        name, dtype, *place = args.alone.split(":")
        print(json.dumps(big_case.measured(name, dtype, args, *place)))
        return
    recorder, rows = harness.Recorder("bigmodel", args), []
    for case in args.cases:
        rows.append(alone(case))
        print(told(rows[-1]), flush=True)
    settings = {"edits": harness.edits_of(args), "precision": args.precision, "record_dtype": args.record_dtype, "stored": args.stored, "cases": list(args.cases)}  # fmt: skip
    recorder.write(settings, {"rows": rows})


if __name__ == "__main__":
    main()
