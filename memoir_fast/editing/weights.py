"""A linear layer's weight as numbers, some rows at a time, whether it is plain or quantised.

The hand-written passes multiply with a block of rows at a time, so that no more of a weight than that is made into floating point. Layers that also
quantise what enters them are not read: their product is another.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from ..base.running import is_plain
from . import quantised

_NUMBERS = 1 << 22  # numbers of a weight that are made at a time: 16 MB in float32
_DTYPES = (torch.float32, torch.bfloat16)


def readable(module: Any) -> bool:
    """Whether a linear layer multiplies its input with a weight that `rows_of` reads, and does nothing else to it (a bias apart)."""
    weight: Any = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor):
        return False
    known = type(module) is nn.Linear if is_plain(weight) else quantised.known(module, weight)
    return known and dtype_of(weight) in _DTYPES


def rows_of(weight: torch.Tensor, rows: slice | torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Some rows (n, in) of a weight, a range of them or those with these numbers (n,)."""
    return weight[rows].to(dtype) if is_plain(weight) else quantised.rows_of(weight, rows, dtype)


def blocks_of(weight: torch.Tensor) -> list[slice]:
    """A weight's rows in blocks, as many in each as are made into numbers at a time."""
    rows, width = sizes_of(weight)
    size = max(1, _NUMBERS // width)
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def sizes_of(weight: Any) -> tuple[int, int]:
    """(out, in): a weight's own sizes, not those of how it is packed."""
    found = weight.quant_state.shape if hasattr(weight, "quant_state") else weight.shape
    return int(found[0]), int(found[1])


def dtype_of(weight: Any) -> torch.dtype:
    """What a weight was before it was quantised."""
    state = getattr(weight, "quant_state", weight)
    return cast(torch.dtype, getattr(state, "original_dtype", state.dtype))


def product_dtype(weight: torch.Tensor) -> torch.dtype:
    """The dtype of the products with a weight: bfloat16 for a model in bfloat16 on a device with units for it, else float32."""
    return torch.bfloat16 if dtype_of(weight) == torch.bfloat16 and has_bfloat16(weight.device) else torch.float32


def is_whole(weight: torch.Tensor) -> bool:
    """Whether a weight can be multiplied as it is stored."""
    return is_plain(weight) and weight.dtype == product_dtype(weight)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 units; a CPU without them is several times slower in bfloat16 than in float32."""
    if device.type != "cpu":
        return True
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
