"""Chooses the backend for each operation and device, and registers the operations.

Pure operations are registered with torch's dispatcher (`memoir_fast::tophash`, `::masked_matmul` and so on) as one
function for all devices, which chooses the kernels when it is called. Operations that write to an argument are
`torch.library.custom_op`s with `mutates_args`, so that the argument's version counter advances. The public functions
check their arguments. They call the registered operation if something watches (autograd, torch.compile, a dispatch
mode); otherwise they call the kernel directly, because the dispatcher takes longer to reach Python than a small product
takes.

`MEMOIR_FAST_BACKEND` chooses a backend: `reference` (plain PyTorch); `cpp` (the extension, for CPU tensors); `triton`
(for GPU tensors, with the CUDA scatter if it is built, else the reference's; for CPU tensors under TRITON_INTERPRET=1).
It is an error if that backend is missing here or cannot take a call's tensors. `auto` takes the best one available.
What looks edits up by words takes numpy arrays and has a rule of its own, see `pair_features.py`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from . import checks, cpu, gpu, reference
from .backend import Backend

LIBRARY = torch.library.Library("memoir_fast", "DEF")
OPERATIONS = (
    "tophash",
    "tophash_pooled",
    "masked_matmul",
    "masked_matmul_",
    "block_matmul",
    "block_matmul_",
    "masked_scatter_",
)
BACKENDS = ("auto", "reference", "cpp", "triton")


class _Choice:
    """The requested backend. It is checked when set, so that a missing one does not fail later or silently."""

    def __init__(self) -> None:
        self.name = "auto"

    def set(self, name: str) -> None:
        """Choose a backend. Raises ValueError for a name not in BACKENDS or a backend that is missing here."""
        if name not in BACKENDS:
            raise ValueError(f"MEMOIR_FAST_BACKEND must be one of {BACKENDS}, got {name!r}")
        if name == "cpp":
            cpu.require()
        if name == "triton":
            gpu.require()
        self.name = name


_choice = _Choice()
_choice.set(os.environ.get("MEMOIR_FAST_BACKEND", "auto"))


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Use another of BACKENDS for a while, in tests and benchmarks. Raises ValueError if it is missing here."""
    before = _choice.name
    _choice.set(name)
    try:
        yield
    finally:
        _choice.name = before


def requested() -> str:
    """The backend asked for, one of BACKENDS."""
    return _choice.name


def backend_of(op: str, device: str = "cpu") -> str:
    """The backend that runs an operation on a device type: "reference", "cpp (avx2)" with its SIMD level, "triton" or
    "cuda".

    Raises ValueError for an unknown operation.
    """
    if op not in OPERATIONS:
        raise ValueError(f"op must be one of {OPERATIONS}, got {op!r}")
    module = _serving(device)
    if module is cpu:
        return f"cpp ({cpu.level()})"
    return gpu.name_of(op, device) if module is gpu else "reference"


def _serving(device: str) -> Backend:
    """The module for a device type under the present choice."""
    if _choice.name == "reference":
        return reference
    if _choice.name == "triton":
        return gpu
    if device == "cpu":
        return cpu if cpu.available() else reference
    return gpu if _choice.name == "auto" and device == "cuda" and gpu.available() else reference


def kernels_for(tensor: torch.Tensor) -> Backend:
    """The module for this tensor's device and dtype. Raises ValueError if the requested backend cannot take it."""
    device = tensor.device.type
    module = _serving(device)
    if _choice.name in ("cpp", "triton"):
        wanted = "cpu" if _choice.name == "cpp" or gpu.interpreted() else "cuda"
        if tensor.dtype == torch.float64 or device != wanted:
            raise ValueError(
                f"MEMOIR_FAST_BACKEND={_choice.name} takes {wanted} tensors up to float32, got {tensor.dtype} on "
                f"{tensor.device}: set it to auto or reference"
            )
    return reference if tensor.dtype == torch.float64 else module


def product_kernels(x: torch.Tensor, indices: torch.Tensor, route: torch.Tensor) -> Backend:
    """The module for a product. Index values are checked here, except for the C++ kernels, which check them
    themselves."""
    kernels = kernels_for(x)
    if kernels is not cpu:
        checks.in_range("indices", indices, 0, x.shape[1])
        checks.in_range("route", route, -1, len(indices))
    return kernels


def unwatched(*tensors: torch.Tensor) -> bool:
    """Whether nothing records or intercepts operations on these tensors, so the kernel may be called without the
    dispatcher."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return False
    if torch._C._functorch.maybe_current_level() is not None or torch._C._is_tracing():
        return False
    grad = torch.is_grad_enabled()
    return not any(type(t) not in _PLAIN or (grad and t.requires_grad) for t in tensors)


_PLAIN = (torch.Tensor, torch.nn.Parameter)


def written(tensor: torch.Tensor) -> None:
    """Advance a tensor's version counter, as the dispatcher does after a write, so that autograd notices the change."""
    if not tensor.is_inference():
        torch.autograd.graph.increment_version(tensor)
