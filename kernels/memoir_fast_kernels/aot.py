"""Compile every kernel ahead of time, without a GPU: `python -m memoir_fast_kernels.aot [target ...]`.

`cases(target)` lists each kernel in each configuration that a launcher may choose; `resources()` tells what a compiled
kernel takes.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from . import masked_matmul, topk_mask

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
SHARED_LIMIT = {
    "sm_80": 163 << 10,
    "sm_90": 227 << 10,
    "sm_100": 227 << 10,
    "gfx942": 64 << 10,
}  # bytes of shared memory that a program may use
FEATURES = (1536, 11008, 14336)  # D of SmolLM2, LLaMA-2-7B and LLaMA-3-8B
DTYPES = (("fp32", "fp32"), ("bf16", "fp32"), ("bf16", "bf16"))  # of x and V

_POINTERS = {
    "indices": "*i32", "route": "*i32", "inverse": "*i32", "permutation": "*i32", "ends": "*i32", "signature": "*u8",
    "order": "*i64", "starts": "*i64", "tile_ends": "*i64", "lines": "*i32", "partial": "*fp32", "background": "*fp32", "means": "*fp32", "scale": "fp32",
}  # fmt: skip
# Sizes that are multiples of 16 in any model. (At a call, Triton checks them and the pointers itself.)
_ALIGNED = ("D", "d", "width", "stride", "out_stride", "x_stride", "v_stride", "grad_stride")


@dataclass(frozen=True)
class Case:
    """One kernel as a launcher may compile it for aligned tensors: argument types by name, constants and compiler
    options."""

    name: str
    kernel: Any  # a triton.JITFunction
    types: dict[str, str]  # such as "*bf16" or "i32"
    constants: dict[str, Any]
    options: dict[str, int]

    def compile(self, target: str) -> Any:
        """The kernel, compiled by Triton for one of TARGETS."""
        names = self.kernel.arg_names
        signature = {
            n: "constexpr" if n in self.constants else self.types.get(n, _POINTERS.get(n, "i32")) for n in names
        }
        constants = {(names.index(n),): value for n, value in self.constants.items()}
        aligned = {
            (i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if signature[n][0] == "*" or n in _ALIGNED
        }
        source = ASTSource(fn=self.kernel, signature=signature, constexprs=constants, attrs=aligned)
        return triton.compile(source, target=TARGETS[target], options=self.options)


def _case(name: str, kernel: Any, types: dict[str, str], config: dict[str, int], **constants: Any) -> Case:
    options = {n: value for n, value in config.items() if n in ("num_warps", "num_stages")}
    blocks = {n: value for n, value in config.items() if n not in options}
    return Case(name, kernel, types, {**blocks, **constants}, options)


def cases(target: str) -> list[Case]:
    """Every kernel in every configuration that a launcher may choose on a target."""
    found = [
        _case("pool", topk_mask._pool_kernel, {"tokens": "*bf16"}, topk_mask.POOL_CONFIG),
        _case("invert", topk_mask._invert_kernel, {}, {"BLOCK": 1024}),
    ]
    lanes = TARGETS[target].warp_size
    for D in FEATURES:
        for dtype in ("fp32", "bf16"):
            types = {"features": f"*{dtype}"}
            found.append(
                _case(f"tophash D={D} {dtype}", topk_mask._tophash_kernel, types, topk_mask.tophash_config(D, lanes))
            )
    for x in ("fp32", "bf16"):
        types = {"x": f"*{x}", "gathered": f"*{x}", "out": f"*{x}"}
        found.append(_case(f"gather {x}", masked_matmul._gather_kernel, types, masked_matmul.GATHER_CONFIG))
        found.append(_case(f"sum {x}", masked_matmul._sum_kernel, types, masked_matmul.SUM_CONFIG, ADD=True))
    for (x, V), blocks in itertools.product(DTYPES, (False, True)):
        suffix = f"{x} x {V}" + (" blocks" if blocks else "")
        mode = "ieee" if x == "fp32" else "half" if V == "bf16" else "tf32"
        types = {"x": f"*{x}", "gathered": f"*{x}", "out": f"*{x}", "grad": f"*{x}", "V": f"*{V}"}
        found += _products(suffix, types, mode, blocks)
    return found


def _products(suffix: str, types: dict[str, str], mode: str, blocks: bool) -> list[Case]:
    """The product's kernels, with V or with blocks, in each configuration."""
    found, kernels, shared = [], masked_matmul, {"BLOCKS": blocks, "MODE": mode, "LINES": 8}
    for i, config in enumerate(kernels.DECODE_CONFIGS):
        name = f"decode {i} {suffix}"
        found.append(_case(name, kernels._decode_kernel, types, config, BLOCKS=blocks, ADD=True, SPLIT=True))
    for i, config in enumerate(kernels.PREFILL_CONFIGS[mode]):
        found.append(_case(f"prefill {i} {suffix}", kernels._prefill_kernel, types, config, ADD=True, **shared))
    for i, config in enumerate(kernels.BACKWARD_CONFIGS):
        found.append(_case(f"backward {i} {suffix}", kernels._backward_kernel, types, config, **shared))
    return found


def resources(compiled: Any, target: str) -> dict[str, int]:
    """What a compiled kernel takes: "registers" per thread, "stack" (bytes spilled per thread), "shared" (bytes per
    program)."""
    if target.startswith("gfx"):
        text = compiled.asm["amdgcn"]

        def value(key: str) -> int:
            return int(re.findall(rf"\.{key}:\s+(\d+)", text)[0])

        return {
            "registers": value("vgpr_count"),
            "stack": value("private_segment_fixed_size"),
            "shared": compiled.metadata.shared,
        }
    return cubin_resources(compiled.asm["cubin"]) | {"shared": compiled.metadata.shared}


def cubin_resources(cubin: bytes) -> dict[str, int]:
    """The most of each resource that a cubin's kernels take, read with the cuobjdump that comes with Triton."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout

    def largest(key: str) -> int:
        return max(int(value) for value in re.findall(rf"\b{key}:(\d+)", text))

    return {"registers": largest("REG"), "stack": largest("STACK") + largest("LOCAL"), "shared": largest("SHARED")}


def main(targets: list[str]) -> None:
    """Compile for these targets (for all if none is given) and print what each kernel takes."""
    for target in targets or TARGETS:
        for case in cases(target):
            found = resources(case.compile(target), target)
            print(f"{target:<7} {case.name:<26} " + ", ".join(f"{n} {v}" for n, v in found.items()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
