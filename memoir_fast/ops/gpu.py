"""The GPU backend: Triton kernels for the products and masks, the CUDA extension for the scatter.

Triton is imported at the first call, never by importing the package.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from types import ModuleType

import torch
from torch import Tensor

from . import reference

_CODES = {torch.float32: 0, torch.bfloat16: 1}


def interpreted() -> bool:
    """Whether Triton runs in its interpreter, on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def available() -> bool:
    """Whether the kernels can run on this machine's GPU."""
    return torch.cuda.is_available() and _has_triton()


def require() -> None:
    """Raise ValueError unless the kernels can run here."""
    if not _has_triton():
        raise ValueError("MEMOIR_FAST_BACKEND=triton, but triton is not installed: pip install triton")
    if not (interpreted() or torch.cuda.is_available()):
        raise ValueError("MEMOIR_FAST_BACKEND=triton needs a CUDA or ROCm device, or TRITON_INTERPRET=1")


@functools.cache
def _cuda() -> ModuleType | None:
    """The CUDA extension, or None if it was not built or does not load."""
    try:
        from . import _cuda as extension
    except ImportError:
        return None
    return extension


def name_of(op: str, device: str) -> str:
    """What runs an operation here: "triton", "triton (interpreted)", "cuda" or "reference"."""
    if op != "masked_scatter_":
        return "triton (interpreted)" if interpreted() else "triton"
    return "cuda" if device == "cuda" and _cuda() is not None else "reference"


def describe() -> str:
    """Which of the kernels' requirements are met, in words."""
    triton = "triton found" if _has_triton() else "no triton"
    device = "a GPU is here" if torch.cuda.is_available() else "no GPU here"
    return f"{triton}, CUDA scatter {'built' if _cuda() is not None else 'not built'}, {device}"


# ---- the operations, documented in backend.py ----------------------------------------------------------------------


def tophash(features: Tensor, background: Tensor, permutation: Tensor, k: int) -> tuple[Tensor, Tensor]:
    from memoir_fast_kernels import topk_mask

    return topk_mask.tophash(features, background, permutation, k)


def tophash_pooled(
    tokens: Tensor, cu_seqlens: Tensor, background: Tensor, permutation: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    from memoir_fast_kernels import topk_mask

    return topk_mask.tophash_pooled(tokens, cu_seqlens, background, permutation, k)


def masked_matmul(x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    from memoir_fast_kernels import masked_matmul as product

    return product.masked_matmul(x, V, indices, route, scale)


def masked_matmul_(out: Tensor, x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
    from memoir_fast_kernels import masked_matmul as product

    product.masked_matmul_(out, x, V, indices, route, scale)


def masked_matmul_backward(
    grad: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float, dimension: int
) -> Tensor:
    from memoir_fast_kernels import masked_matmul as product

    return product.masked_matmul_backward(grad, V, indices, route, scale, dimension)


# The product's kernels distinguish blocks (three dimensions) from V (two) themselves.


def block_matmul(x: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
    return masked_matmul(x, blocks, indices, route, scale)


def block_matmul_(out: Tensor, x: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
    masked_matmul_(out, x, blocks, indices, route, scale)


def block_matmul_backward(
    grad: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float, dimension: int
) -> Tensor:
    return masked_matmul_backward(grad, blocks, indices, route, scale, dimension)


def masked_scatter_(V: Tensor, idx: Tensor, A: Tensor, G: Tensor, scale: float) -> Tensor:
    """Torch computes the product and the CUDA extension the rest. If that is not built, or V's rows are not contiguous,
    the reference does it all."""
    cuda = _cuda()
    if not V.is_cuda or cuda is None or V.stride(1) != 1:
        return reference.masked_scatter_(V, idx, A, G, scale)
    (k, d), idx = (A.shape[1], G.shape[1]), idx.contiguous()
    squared = torch.zeros((), dtype=torch.float32, device=V.device)
    if k == 0 or d == 0:
        return squared
    gradient = A.float().T @ G.float()
    partial = torch.empty(cuda.blocks(k, d), dtype=torch.float32, device=V.device)
    cuda.masked_scatter(
        V.data_ptr(), _CODES[V.dtype], d, V.stride(0), idx.data_ptr(), k, gradient.data_ptr(), scale, partial.data_ptr(),
        squared.data_ptr(), V.device.index, torch.cuda.current_stream(V.device).cuda_stream)  # fmt: skip
    return squared
