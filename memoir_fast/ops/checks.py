"""Checks of the operations' arguments. They raise TypeError or ValueError naming the argument, what it got and what it
accepts.

They run at every call, so messages are built only when needed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
WEIGHTS = (torch.float32, torch.bfloat16, torch.float64)
_INT32 = (torch.int32,)


def all_finite(tensor: Tensor) -> bool:
    """Whether a floating-point tensor holds neither NaN nor infinity: in one pass, without the tensors of its size that isfinite makes."""
    if not tensor.numel():
        return True
    low, high = torch.aminmax(tensor)  # both are NaN where one number is
    return math.isfinite(low) and math.isfinite(high)


def _tensor(
    name: str, value: object, dims: int, dtypes: tuple[torch.dtype, ...], device: torch.device | None = None
) -> None:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.dim() != dims:
        raise ValueError(f"{name} must have {dims} dimensions, got shape {tuple(value.shape)}")
    if value.dtype not in dtypes:
        raise ValueError(f"{name} must be one of {[str(d) for d in dtypes]}, got {value.dtype}")
    if value.layout is not torch.strided:
        raise ValueError(f"{name} must be dense, got layout {value.layout}: call to_dense()")
    if device is not None and value.device != device:
        raise ValueError(f"{name} is on {value.device}, expected {device}")


def _number(name: str, value: object) -> None:
    if not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number, got {type(value).__name__}")


def _memory(V: Tensor) -> None:
    if V.requires_grad:
        raise ValueError("V must not require grad: edits write the memory directly")


def in_range(name: str, index: Tensor, low: int, high: int) -> None:
    """Check index values, on the CPU only. On a GPU the check would stall the stream, and a bad index has undefined
    effects."""
    if index.device.type == "cpu" and index.numel():
        least, most = int(index.min()), int(index.max())
        if least < low or most >= high:
            raise ValueError(f"{name} must be in [{low}, {high - 1}], got values {least}..{most}")


def unique(name: str, index: Tensor) -> None:
    """Check that no value occurs twice, on the CPU only."""
    if index.device.type == "cpu":
        repeats = len(index) - len(index.unique())
        if repeats:
            raise ValueError(f"{name} must not repeat an index, got {repeats} repeats")


def permutation(values: Tensor) -> None:
    """Check that each of 0..D-1 occurs once, on the CPU only."""
    in_range("permutation", values, 0, len(values))
    if values.device.type == "cpu" and len(values.unique()) < len(values):
        raise ValueError(f"permutation must hold each of 0..{len(values) - 1} once, got repeats")


def finite(name: str, features: Tensor, background: Tensor) -> None:
    """Check for NaN and infinity, on the CPU only. On a GPU this would wait for the device at every prompt; there a NaN
    counts as the largest value of the mask."""
    if features.device.type == "cpu":
        bad = (~torch.isfinite(features.float() - background.float())).any(1).nonzero()
        if len(bad):
            raise ValueError(f"{name} less background holds NaN or infinity in row {int(bad[0, 0])}")


def tophash(name: str, features: Tensor, background: Tensor, permutation: Tensor, k: int) -> None:
    """Check the arguments of `tophash`; `name` is the argument that holds the features."""
    _tensor(name, features, 2, FLOATS)
    columns, device = features.shape[1], features.device
    _tensor("background", background, 1, FLOATS, device)
    _tensor("permutation", permutation, 1, _INT32, device)
    if len(background) != columns:
        raise ValueError(f"background must have {columns} entries, got {len(background)}")
    if len(permutation) != columns:
        raise ValueError(f"permutation must have {columns} entries, got {len(permutation)}")
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= columns:
        raise ValueError(f"k must be an int in [1, {columns}], got {k!r}")


def segments(cu_seqlens: Tensor, device: torch.device) -> None:
    """Check the ends of token segments, except for their values."""
    _tensor("cu_seqlens", cu_seqlens, 1, _INT32, device)
    if len(cu_seqlens) < 1:
        raise ValueError("cu_seqlens must have at least one entry, got none")


def segment_values(cu_seqlens: Tensor, tokens: int) -> None:
    """Check the values of the segments' ends, on the CPU only."""
    if cu_seqlens.device.type != "cpu":
        return
    lengths = cu_seqlens.diff()
    empty = (lengths <= 0).nonzero()[:, 0].tolist()
    if empty:
        raise ValueError(f"cu_seqlens: segment {empty[0]} holds no token")
    if len(lengths) and (int(cu_seqlens[0]) != 0 or int(cu_seqlens[-1]) != tokens):
        raise ValueError(f"cu_seqlens must run from 0 to {tokens}, the number of tokens")


def product(x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
    """Check the arguments of `masked_matmul`."""
    _tensor("x", x, 2, (*FLOATS, torch.float64))
    _tensor("V", V, 2, WEIGHTS, x.device)
    _both_double("V", V, x)
    _routes(x, indices, route)
    _memory(V)
    if x.shape[1] != V.shape[0]:
        raise ValueError(f"x has {x.shape[1]} columns, V has {V.shape[0]} rows: they must agree")
    _number("scale", scale)


def block_product(x: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
    """Check the arguments of `block_matmul`."""
    _tensor("x", x, 2, (*FLOATS, torch.float64))
    _tensor("blocks", blocks, 3, WEIGHTS, x.device)
    _both_double("blocks", blocks, x)
    _routes(x, indices, route)
    if blocks.requires_grad:
        raise ValueError("blocks must not require grad: they are copies of the memory's rows, call detach()")
    if blocks.shape[0] != indices.shape[0] or blocks.shape[1] != indices.shape[1]:
        raise ValueError(
            f"blocks must have shape {tuple(indices.shape)} + (d,), one row per index, got {tuple(blocks.shape)}"
        )
    _number("scale", scale)


def _both_double(name: str, weights: Tensor, x: Tensor) -> None:
    if (x.dtype == torch.float64) != (weights.dtype == torch.float64):
        raise ValueError(f"x and {name} must both be float64 or neither, got {x.dtype} and {weights.dtype}")


def _routes(x: Tensor, indices: Tensor, route: Tensor) -> None:
    _tensor("indices", indices, 2, _INT32, x.device)
    _tensor("route", route, 1, _INT32, x.device)
    if len(route) != len(x):
        raise ValueError(f"route must have {len(x)} entries, one per row of x, got {len(route)}")


def accumulator(op: str, out: Tensor, x: Tensor, d: int) -> None:
    """Check the tensor that `op` (`masked_matmul_` or `block_matmul_`) adds to; the other arguments are checked
    before."""
    _tensor("out", out, 2, (x.dtype,), x.device)
    if out.shape[0] != x.shape[0] or out.shape[1] != d:
        raise ValueError(f"out must have shape {(len(x), d)}, got {tuple(out.shape)}")
    if torch.is_grad_enabled() and (out.requires_grad or x.requires_grad):
        raise ValueError(
            f"out or x requires grad, but {op} is for inference: use {op[:-1]} where a gradient is recorded"
        )


def scatter(V: Tensor, idx: Tensor, A: Tensor, G: Tensor, scale: float) -> None:
    """Check the arguments of `masked_scatter_`."""
    kinds = (torch.float32, torch.bfloat16)
    _tensor("V", V, 2, kinds)
    _tensor("idx", idx, 1, _INT32, V.device)
    _tensor("A", A, 2, kinds, V.device)
    _tensor("G", G, 2, kinds, V.device)
    if A.shape[1] != len(idx):
        raise ValueError(f"A must have {len(idx)} columns, one per index, got {A.shape[1]}")
    if len(A) != len(G):
        raise ValueError(f"A and G must have the same number of rows, got {len(A)} and {len(G)}")
    if G.shape[1] != V.shape[1]:
        raise ValueError(f"G must have {V.shape[1]} columns, as V, got {G.shape[1]}")
    _number("scale", scale)
    _memory(V)
