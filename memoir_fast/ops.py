"""The project's operations on tensors: schemas, gradients, and which backend serves each device.

Pure operations are registered with the dispatcher (`memoir_fast::tophash`, `::tophash_pooled`, `::masked_matmul`), the
reference at CompositeExplicitAutograd and a kernel per device over it. Operations that write into an argument are
`torch.library.custom_op`s with `mutates_args`, so that the argument's version counter moves. The functions below them
check their arguments and take the registered operation where something watches (autograd, torch.compile, a dispatch
mode), otherwise the kernel itself: the dispatcher's way to Python takes longer than a small product.

`MEMOIR_FAST_BACKEND` asks for one backend: `reference` (plain PyTorch), `cpp` (the extension, CPU tensors), `triton`
(GPU tensors, with the CUDA scatter where it is built and otherwise the reference's; CPU tensors under
TRITON_INTERPRET=1). One that is missing here, or cannot take a call's tensors, is an error; `auto` takes the best there is. `python -m memoir_fast.ops` prints who serves each operation.

Shapes as in `reference.py`: B prompts, N tokens, D features, d outputs, k active features, R masks, n training tokens.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os

import torch

from . import _cpu, _gpu, checks, reference

_LIBRARY = torch.library.Library("memoir_fast", "DEF")
OPERATIONS = ("tophash", "tophash_pooled", "masked_matmul", "masked_matmul_", "masked_scatter_")
BACKENDS = ("auto", "reference", "cpp", "triton")


# ---- which backend -----------------------------------------------------------------------------------------------


class _Choice:
    """The requested backend; checked when it is set, so that a missing one never fails later or silently."""

    def __init__(self):
        self.name = "auto"

    def set(self, name: str) -> None:
        if name not in BACKENDS:
            raise ValueError(f"MEMOIR_FAST_BACKEND must be one of {BACKENDS}, got {name!r}")
        if name == "cpp":
            _cpu.require()
        if name == "triton":
            _gpu.require()
        self.name = name


_choice = _Choice()
_choice.set(os.environ.get("MEMOIR_FAST_BACKEND", "auto"))


@contextlib.contextmanager
def use_backend(name: str):
    """Another backend for a while (tests and benchmarks)."""
    before = _choice.name
    _choice.set(name)
    try:
        yield
    finally:
        _choice.name = before


def backend_of(op: str, device: str = "cpu") -> str:
    """Which backend serves an operation on a device type: "reference", "cpp (avx2)" with its SIMD level, "triton", "cuda"."""
    if op not in OPERATIONS:
        raise ValueError(f"op must be one of {OPERATIONS}, got {op!r}")
    module = _serving(device)
    if module is _cpu:
        return f"cpp ({_cpu.level()})"
    return _gpu.name_of(op, device) if module is _gpu else "reference"


def _serving(device: str):
    """The module that serves a device type under the present choice."""
    if _choice.name == "reference":
        return reference
    if _choice.name == "triton":
        return _gpu
    if device == "cpu":
        return _cpu if _cpu.available() else reference
    return _gpu if _choice.name == "auto" and device == "cuda" and _gpu.available() else reference


def _kernels(tensor: torch.Tensor):
    """The module that serves this tensor; raises where a backend was asked for that cannot."""
    device = tensor.device.type
    module = _serving(device)
    if _choice.name in ("cpp", "triton"):
        wanted = "cpu" if _choice.name == "cpp" or _gpu.interpreted() else "cuda"
        if tensor.dtype == torch.float64 or device != wanted:
            raise ValueError(
                f"MEMOIR_FAST_BACKEND={_choice.name} takes {wanted} tensors up to float32, got {tensor.dtype} on "
                f"{tensor.device}: set it to auto or reference"
            )
    return reference if tensor.dtype == torch.float64 else module


def _unwatched(*tensors: torch.Tensor) -> bool:
    """Nothing records or intercepts operations on these tensors: the kernel may be called without the dispatcher."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return False
    if torch._C._functorch.maybe_current_level() is not None or torch._C._is_tracing():
        return False
    grad = torch.is_grad_enabled()
    return not any(type(t) not in _PLAIN or (grad and t.requires_grad) for t in tensors)


_PLAIN = (torch.Tensor, torch.nn.Parameter)

# ---- tophash -----------------------------------------------------------------------------------------------------

_LIBRARY.define("tophash(Tensor features, Tensor background, Tensor permutation, int k) -> (Tensor, Tensor)")
_LIBRARY.define(
    "tophash_pooled(Tensor tokens, Tensor cu_seqlens, Tensor background, Tensor permutation, int k) -> (Tensor, Tensor)"
)


def _empty_masks(batch: int, columns: int, k: int, device):
    signature = torch.empty(batch, (columns + 7) // 8, dtype=torch.uint8, device=device)
    return torch.empty(batch, k, dtype=torch.int32, device=device), signature


# The C++ kernels check values in their own passes over the data; for the others it is done here (on the CPU only).


def _tophash(features, background, permutation, k):
    kernels = _kernels(features)
    if kernels is not _cpu:
        checks.finite("features", features, background)
        checks.permutation(permutation)
    return kernels.tophash(features, background, permutation, k)


def _tophash_pooled(tokens, cu_seqlens, background, permutation, k):
    kernels = _kernels(tokens)
    if kernels is not _cpu:
        checks.segment_values(cu_seqlens, len(tokens))
        checks.finite("tokens", reference.pool(tokens, cu_seqlens), background)
        checks.permutation(permutation)
    return kernels.tophash_pooled(tokens, cu_seqlens, background, permutation, k)


_LIBRARY.impl("tophash", _tophash, "CompositeExplicitAutograd")
_LIBRARY.impl("tophash_pooled", _tophash_pooled, "CompositeExplicitAutograd")


@torch.library.register_fake("memoir_fast::tophash", lib=_LIBRARY)
def _(features, background, permutation, k):
    return _empty_masks(features.shape[0], features.shape[1], k, features.device)


@torch.library.register_fake("memoir_fast::tophash_pooled", lib=_LIBRARY)
def _(tokens, cu_seqlens, background, permutation, k):
    return _empty_masks(cu_seqlens.shape[0] - 1, tokens.shape[1], k, tokens.device)


def tophash(features: torch.Tensor, background: torch.Tensor, permutation: torch.Tensor, k: int):
    """Masks of prompt features (MEMOIR, section 3.2): the k largest |features - background|, permuted, sorted, packed.

    Args:
        features: (B, D) float32, bfloat16 or float16.
        background: (D,) float; permutation: (D,) int32, a permutation of 0..D-1; k: 1..D.

    Returns:
        indices (B, k) int32 ascending and signature (B, ceil(D/8)) uint8, little-endian, padding bits 0. Of equal
        magnitudes the lower index is taken.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape, dtype or device, or features hold NaN or infinity
            (checked on the CPU only; the message names the row).
    """
    checks.tophash("features", features, background, permutation, k)
    direct = _unwatched(features, background, permutation)
    return (_tophash if direct else torch.ops.memoir_fast.tophash)(features, background, permutation, k)


def tophash_pooled(tokens: torch.Tensor, cu_seqlens: torch.Tensor, background, permutation, k: int):
    """`tophash` of the means of token segments, in one operation.

    Args:
        tokens: (N, D) float32, bfloat16 or float16; segment b is tokens[cu_seqlens[b]:cu_seqlens[b + 1]].
        cu_seqlens: (B + 1,) int32, from 0 to N, strictly ascending.
        background, permutation, k: as for `tophash`.
    """
    checks.tophash("tokens", tokens, background, permutation, k)
    checks.segments(cu_seqlens, tokens.device)
    direct = _unwatched(tokens, cu_seqlens, background, permutation)
    function = _tophash_pooled if direct else torch.ops.memoir_fast.tophash_pooled
    return function(tokens, cu_seqlens, background, permutation, k)


# ---- masked_matmul -----------------------------------------------------------------------------------------------

_LIBRARY.define("masked_matmul(Tensor x, Tensor V, Tensor indices, Tensor route, float scale) -> Tensor")
_LIBRARY.define("masked_matmul_backward(Tensor grad, Tensor V, Tensor indices, Tensor route, float scale) -> Tensor")


def _product_kernels(x, V, indices, route):
    kernels = _kernels(x)
    if kernels is not _cpu:
        checks.in_range("indices", indices, 0, V.shape[0])
        checks.in_range("route", route, -1, len(indices))
    return kernels


def _masked_matmul(x, V, indices, route, scale):
    return _product_kernels(x, V, indices, route).masked_matmul(x, V, indices, route, scale)


def _masked_matmul_backward(grad, V, indices, route, scale):
    return _kernels(grad).masked_matmul_backward(grad, V, indices, route, scale, V.shape[0])


_LIBRARY.impl("masked_matmul", _masked_matmul, "CompositeExplicitAutograd")
_LIBRARY.impl("masked_matmul_backward", _masked_matmul_backward, "CompositeExplicitAutograd")


@torch.library.register_fake("memoir_fast::masked_matmul", lib=_LIBRARY)
def _(x, V, indices, route, scale):
    return x.new_empty(x.shape[0], V.shape[1])


@torch.library.register_fake("memoir_fast::masked_matmul_backward", lib=_LIBRARY)
def _(grad, V, indices, route, scale):
    return grad.new_empty(grad.shape[0], V.shape[0])


def _setup_context(ctx, inputs, output):
    _, V, indices, route, ctx.scale = inputs
    ctx.save_for_backward(V, indices, route)


def _backward(ctx, grad):
    if not ctx.needs_input_grad[0]:
        return None, None, None, None, None
    V, indices, route = ctx.saved_tensors
    return torch.ops.memoir_fast.masked_matmul_backward(grad, V, indices, route, ctx.scale), None, None, None, None


torch.library.register_autograd("memoir_fast::masked_matmul", _backward, setup_context=_setup_context, lib=_LIBRARY)


def _double_backward(ctx, grad):
    # The backward is linear in its gradient: its own gradient is the forward product.
    V, indices, route = ctx.saved_tensors
    out = torch.ops.memoir_fast.masked_matmul(grad.contiguous(), V, indices, route, ctx.scale)
    return out, None, None, None, None


torch.library.register_autograd(
    "memoir_fast::masked_matmul_backward", _double_backward, setup_context=_setup_context, lib=_LIBRARY
)


def masked_matmul(x: torch.Tensor, V: torch.Tensor, indices: torch.Tensor, route: torch.Tensor, scale: float):
    """The memory's output for each token: row t is `scale * x[t, idx] @ V[idx]` with `idx = indices[route[t]]`.

    Args:
        x: (N, D) float32, bfloat16, float16 (or float64); V: (D, d) float32 or bfloat16, without grad.
        indices: (R, k) int32 in 0..D-1, without repeats in a row; route: (N,) int32 in -1..R-1; scale: a number.

    Returns:
        (N, d) of x's dtype, summed in float32; rows with route -1 are -0.0, so that adding them changes no bit.
        Differentiable with respect to x.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, dtype, device or (on the CPU) index range.
    """
    checks.product(x, V, indices, route, scale)
    function = _masked_matmul if _unwatched(x, V, indices, route) else torch.ops.memoir_fast.masked_matmul
    return function(x, V, indices, route, float(scale))


@torch.library.custom_op("memoir_fast::masked_matmul_", mutates_args=("out",))
def _masked_matmul_inplace(
    out: torch.Tensor, x: torch.Tensor, V: torch.Tensor, indices: torch.Tensor, route: torch.Tensor, scale: float
) -> None:
    _product_kernels(x, V, indices, route).masked_matmul_(out, x, V, indices, route, scale)


def masked_matmul_(out: torch.Tensor, x, V, indices, route, scale: float) -> None:
    """`out[t] += scale * x[t, idx] @ V[idx]` in place, for inference; rows with route -1 are not written.

    Args:
        out: (N, d) of x's dtype; the others as for `masked_matmul`.
    """
    checks.product(x, V, indices, route, scale)
    checks.accumulator(out, x, V)
    if _unwatched(out, x, V, indices, route):
        _product_kernels(x, V, indices, route).masked_matmul_(out, x, V, indices, route, float(scale))
        _written(out)
    else:
        _masked_matmul_inplace(out, x, V, indices, route, float(scale))


def _written(tensor: torch.Tensor) -> None:
    """What the dispatcher does for a registered operation that writes: autograd notices that saved values are gone."""
    if not tensor.is_inference():
        torch.autograd.graph.increment_version(tensor)


# ---- masked_scatter_ ---------------------------------------------------------------------------------------------


@torch.library.custom_op("memoir_fast::masked_scatter_", mutates_args=("V",))
def _masked_scatter(V: torch.Tensor, idx: torch.Tensor, A: torch.Tensor, G: torch.Tensor, scale: float) -> torch.Tensor:
    return _scatter(V, idx, A, G, scale)


def _scatter(V, idx, A, G, scale):
    kernels = _kernels(V)
    if kernels is not _cpu:
        checks.in_range("idx", idx, 0, len(V))
        checks.unique("idx", idx)
    return kernels.masked_scatter_(V, idx, A, G, scale)


@_masked_scatter.register_fake
def _(V, idx, A, G, scale):
    return V.new_empty((), dtype=torch.float32)


def masked_scatter_(V: torch.Tensor, idx: torch.Tensor, A: torch.Tensor, G: torch.Tensor, scale: float) -> torch.Tensor:
    """The masked gradient scatter: `V[idx] += scale * A^T G`, in place.

    Args:
        V: (D, d) float32 or bfloat16; idx: (k,) int32 in 0..D-1 without repeats; A: (n, k) and G: (n, d) float32 or
            bfloat16; scale: a number.

    Returns:
        `||A^T G||_F^2`, a float32 scalar tensor (before the scale).
    """
    checks.scatter(V, idx, A, G, scale)
    if not _unwatched(V, idx, A, G):
        return _masked_scatter(V, idx, A, G, float(scale))
    squared = _scatter(V, idx, A, G, float(scale))
    _written(V)
    return squared


def _main() -> None:
    parser = argparse.ArgumentParser(description="Which backend serves each operation on this machine.")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    as_json = parser.parse_args().json
    served = {device: {op: backend_of(op, device) for op in OPERATIONS} for device in devices}
    if as_json:
        found = {"torch": torch.__version__, "extension": _cpu.describe(), "gpu": _gpu.describe(), "served": served}
        print(json.dumps(found))
        return
    print(f"torch {torch.__version__}, extension: {_cpu.describe()}, GPU kernels: {_gpu.describe()}")
    for device in devices:
        for op in OPERATIONS:
            print(f"  {device:<5} {op:<16} {served[device][op]}")


if __name__ == "__main__":
    _main()
