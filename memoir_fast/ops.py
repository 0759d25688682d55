"""The project's operations on tensors: schemas, checks, gradients, and which backend serves each device.

Pure operations are registered with the dispatcher (`memoir_fast::tophash`, `::tophash_pooled`, `::masked_matmul`), the
reference at CompositeExplicitAutograd and a kernel per device over it. Operations that write into an argument are
`torch.library.custom_op`s with `mutates_args`, so that the argument's version counter moves.

`MEMOIR_FAST_BACKEND` (auto, reference, cpp) asks for one backend: an explicit one that is missing here is an error,
`auto` takes the best there is (the C++ extension for CPU tensors, the reference elsewhere). `python -m memoir_fast.ops` prints who serves each operation.

Shapes as in `reference.py`: B prompts, N tokens, D features, d outputs, k active features, R masks, n training tokens.
"""

from __future__ import annotations

import contextlib
import os

import torch

from . import _cpu, reference

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_LIBRARY = torch.library.Library("memoir_fast", "DEF")
OPERATIONS = ("tophash", "tophash_pooled", "masked_matmul", "masked_matmul_", "masked_scatter_")
BACKENDS = ("auto", "reference", "cpp")


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
    """Which backend serves an operation on a device type: "reference", or "cpp (avx2)" with its SIMD level."""
    if op not in OPERATIONS:
        raise ValueError(f"op must be one of {OPERATIONS}, got {op!r}")
    compiled = _choice.name != "reference" and device == "cpu" and _cpu.available()
    return f"cpp ({_cpu.level()})" if compiled else "reference"


def _kernels(tensor: torch.Tensor):
    """The module that serves this tensor: the C++ front for CPU tensors, otherwise the reference."""
    compiled = _choice.name != "reference" and tensor.device.type == "cpu" and tensor.dtype != torch.float64
    return _cpu if compiled and _cpu.available() else reference


# ---- checks ------------------------------------------------------------------------------------------------------


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _tensor(name: str, value, dims: int, dtypes, device=None) -> None:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    _require(value.dim() == dims, f"{name} must have {dims} dimensions, got shape {tuple(value.shape)}")
    _require(value.dtype in dtypes, f"{name} must be one of {[str(d) for d in dtypes]}, got {value.dtype}")
    _require(device is None or value.device == device, f"{name} is on {value.device}, expected {device}")


def _in_range(name: str, index: torch.Tensor, low: int, high: int) -> None:
    """Index values, on the CPU only: on a GPU the check would stall the stream (an index out of range is undefined)."""
    if index.device.type == "cpu" and index.numel():
        least, most = int(index.min()), int(index.max())
        _require(low <= least and most < high, f"{name} must be in [{low}, {high - 1}], got values {least}..{most}")


def _check_tophash(columns: int, background, permutation, k, device) -> None:
    _tensor("background", background, 1, _FLOATS, device)
    _tensor("permutation", permutation, 1, (torch.int32,), device)
    _require(len(background) == columns, f"background must have {columns} entries, got {len(background)}")
    _require(len(permutation) == columns, f"permutation must have {columns} entries, got {len(permutation)}")
    _require(isinstance(k, int) and 1 <= k <= columns, f"k must be an int in [1, {columns}], got {k!r}")


def _check_finite(name: str, tensor: torch.Tensor) -> None:
    # On a GPU this would wait for the device at every prompt; there a NaN ends up in the mask as the largest value.
    if tensor.device.type == "cpu" and not bool(torch.isfinite(tensor).all()):
        row = int((~torch.isfinite(tensor)).any(1).nonzero()[0, 0])
        raise ValueError(f"{name} holds NaN or infinity in row {row}")


def _check_product(x, V, indices, route, scale) -> None:
    _tensor("x", x, 2, (*_FLOATS, torch.float64))
    _tensor("V", V, 2, (torch.float32, torch.bfloat16, torch.float64), x.device)
    _require((x.dtype == torch.float64) == (V.dtype == torch.float64), "x and V must both be float64 or neither")
    _tensor("indices", indices, 2, (torch.int32,), x.device)
    _tensor("route", route, 1, (torch.int32,), x.device)
    _require(not V.requires_grad, "V must not require grad: edits write the memory directly")
    _require(x.shape[1] == V.shape[0], f"x has {x.shape[1]} columns, V has {V.shape[0]} rows: they must agree")
    _require(len(route) == len(x), f"route must have {len(x)} entries, one per row of x, got {len(route)}")
    _require(isinstance(scale, (int, float)), f"scale must be a number, got {type(scale).__name__}")
    if not torch.compiler.is_compiling():
        _in_range("indices", indices, 0, V.shape[0])
        _in_range("route", route, -1, len(indices))


# ---- tophash -----------------------------------------------------------------------------------------------------

_LIBRARY.define("tophash(Tensor features, Tensor background, Tensor permutation, int k) -> (Tensor, Tensor)")
_LIBRARY.define(
    "tophash_pooled(Tensor tokens, Tensor cu_seqlens, Tensor background, Tensor permutation, int k) -> (Tensor, Tensor)"
)


def _empty_masks(batch: int, columns: int, k: int, device):
    signature = torch.empty(batch, (columns + 7) // 8, dtype=torch.uint8, device=device)
    return torch.empty(batch, k, dtype=torch.int32, device=device), signature


def _tophash(features, background, permutation, k):
    kernels = _kernels(features)
    if kernels is reference:  # the C++ kernel makes the same checks in its pass over the data
        _check_finite("features", features)
        _in_range("permutation", permutation, 0, features.shape[1])
    return kernels.tophash(features, background, permutation, k)


def _tophash_pooled(tokens, cu_seqlens, background, permutation, k):
    kernels = _kernels(tokens)
    if kernels is reference and tokens.device.type == "cpu":
        lengths = cu_seqlens.diff()
        empty = (lengths <= 0).nonzero()[:, 0].tolist()
        _require(not empty, f"cu_seqlens: segments {empty[:8]} hold no token")
        _require(
            len(lengths) == 0 or (int(cu_seqlens[0]) == 0 and int(cu_seqlens[-1]) == len(tokens)),
            f"cu_seqlens must run from 0 to {len(tokens)}, the number of tokens",
        )
    if kernels is not reference:
        return kernels.tophash_pooled(tokens, cu_seqlens, background, permutation, k)
    return _tophash(reference.pool(tokens, cu_seqlens), background, permutation, k)


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
    _tensor("features", features, 2, _FLOATS)
    _check_tophash(features.shape[1], background, permutation, k, features.device)
    return torch.ops.memoir_fast.tophash(features, background, permutation, k)


def tophash_pooled(tokens: torch.Tensor, cu_seqlens: torch.Tensor, background, permutation, k: int):
    """`tophash` of the means of token segments, in one operation.

    Args:
        tokens: (N, D) float32, bfloat16 or float16; segment b is tokens[cu_seqlens[b]:cu_seqlens[b + 1]].
        cu_seqlens: (B + 1,) int32, from 0 to N, strictly ascending.
        background, permutation, k: as for `tophash`.
    """
    _tensor("tokens", tokens, 2, _FLOATS)
    _tensor("cu_seqlens", cu_seqlens, 1, (torch.int32,), tokens.device)
    _require(len(cu_seqlens) >= 1, "cu_seqlens must have at least one entry")
    _check_tophash(tokens.shape[1], background, permutation, k, tokens.device)
    return torch.ops.memoir_fast.tophash_pooled(tokens, cu_seqlens, background, permutation, k)


# ---- masked_matmul -----------------------------------------------------------------------------------------------

_LIBRARY.define("masked_matmul(Tensor x, Tensor V, Tensor indices, Tensor route, float scale) -> Tensor")
_LIBRARY.define("masked_matmul_backward(Tensor grad, Tensor V, Tensor indices, Tensor route, float scale) -> Tensor")


def _masked_matmul(x, V, indices, route, scale):
    return _kernels(x).masked_matmul(x, V, indices, route, scale)


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


def _setup_backward_context(ctx, inputs, output):
    _, V, indices, route, ctx.scale = inputs
    ctx.save_for_backward(V, indices, route)


def _double_backward(ctx, grad):
    # The backward is linear in its gradient: its own gradient is the forward product.
    V, indices, route = ctx.saved_tensors
    out = torch.ops.memoir_fast.masked_matmul(grad.contiguous(), V, indices, route, ctx.scale)
    return out, None, None, None, None


torch.library.register_autograd(
    "memoir_fast::masked_matmul_backward", _double_backward, setup_context=_setup_backward_context, lib=_LIBRARY
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
    _check_product(x, V, indices, route, scale)
    return torch.ops.memoir_fast.masked_matmul(x, V, indices, route, float(scale))


@torch.library.custom_op("memoir_fast::masked_matmul_", mutates_args=("out",))
def _masked_matmul_inplace(
    out: torch.Tensor, x: torch.Tensor, V: torch.Tensor, indices: torch.Tensor, route: torch.Tensor, scale: float
) -> None:
    _kernels(x).masked_matmul_(out, x, V, indices, route, scale)


def masked_matmul_(out: torch.Tensor, x, V, indices, route, scale: float) -> None:
    """`out[t] += scale * x[t, idx] @ V[idx]` in place, for inference; rows with route -1 are not written.

    Args:
        out: (N, d) of x's dtype; the others as for `masked_matmul`.
    """
    _check_product(x, V, indices, route, scale)
    _tensor("out", out, 2, (x.dtype,), x.device)
    expected = (len(x), V.shape[1])
    _require(tuple(out.shape) == expected, f"out must have shape {expected}, got {tuple(out.shape)}")
    _require(not (torch.is_grad_enabled() and (out.requires_grad or x.requires_grad)),
             "masked_matmul_ is for inference: use masked_matmul where a gradient is recorded")  # fmt: skip
    _masked_matmul_inplace(out, x, V, indices, route, float(scale))


# ---- masked_scatter_ ---------------------------------------------------------------------------------------------


@torch.library.custom_op("memoir_fast::masked_scatter_", mutates_args=("V",))
def _masked_scatter(V: torch.Tensor, idx: torch.Tensor, A: torch.Tensor, G: torch.Tensor, scale: float) -> torch.Tensor:
    return _kernels(V).masked_scatter_(V, idx, A, G, scale)


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
    _tensor("V", V, 2, (torch.float32, torch.bfloat16))
    _tensor("idx", idx, 1, (torch.int32,), V.device)
    _tensor("A", A, 2, (torch.float32, torch.bfloat16), V.device)
    _tensor("G", G, 2, (torch.float32, torch.bfloat16), V.device)
    _require(A.shape[1] == len(idx), f"A must have {len(idx)} columns, one per index, got {A.shape[1]}")
    _require(len(A) == len(G), f"A and G must have the same number of rows, got {len(A)} and {len(G)}")
    _require(G.shape[1] == V.shape[1], f"G must have {V.shape[1]} columns, as V, got {G.shape[1]}")
    _require(isinstance(scale, (int, float)), f"scale must be a number, got {type(scale).__name__}")
    _require(not V.requires_grad, "V must not require grad: edits write the memory directly")
    if not torch.compiler.is_compiling():
        _in_range("idx", idx, 0, len(V))
        if V.device.type == "cpu" and len(idx) > 1:
            repeats = len(idx) - len(idx.unique())
            _require(repeats == 0, f"idx must not repeat an index, got {repeats} repeats")
    return _masked_scatter(V, idx, A, G, float(scale))


def _main() -> None:
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    print(f"torch {torch.__version__}, extension: {_cpu.describe()}")
    for device in devices:
        for op in OPERATIONS:
            print(f"  {device:<5} {op:<16} {backend_of(op, device)}")


if __name__ == "__main__":
    _main()
