"""A linear layer's weight as numbers, some rows at a time, however it is stored: plain, or quantised by torchao or optimum-quanto.

Quantised weights are codes with a scale for each row, or for each group of columns in a row. The hand-written passes multiply with a block of rows
at a time, so that no more of a weight than that is in floating point. Layers that also quantise what enters them are not read: their product is another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from ..base.running import is_plain

_NUMBERS = 1 << 22  # numbers of a weight that are made at a time: 16 MB in float32
_DTYPES = (torch.float32, torch.bfloat16)
# What torchao does to a layer's input before it multiplies.
_ON_INPUTS = ("act_quant_kwargs", "act_pre_scale", "activation_quantization")


class _Codes(NamedTuple):
    """Rows of a quantised weight, which is (codes - zero) * scale - shift. codes is (n, in); the others are (n, groups), (1, groups) or None."""

    codes: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor | None = None
    shift: torch.Tensor | None = None


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 units; a CPU without them is several times slower in bfloat16 than in float32."""
    if device.type != "cpu":
        return True
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))


def product_dtype(weight: torch.Tensor) -> torch.dtype:
    """The dtype of the products with a weight: bfloat16 for a model in bfloat16 on a device with units for it, else float32."""
    return torch.bfloat16 if weight.dtype == torch.bfloat16 and has_bfloat16(weight.device) else torch.float32


def is_whole(weight: torch.Tensor) -> bool:
    """Whether a weight can be multiplied as it is stored."""
    return is_plain(weight) and weight.dtype == product_dtype(weight)


def blocks_of(weight: torch.Tensor) -> list[slice]:
    """A weight's rows in blocks, as many in each as are made into numbers at a time."""
    size = max(1, _NUMBERS // weight.shape[1])
    return [slice(start, min(start + size, len(weight))) for start in range(0, len(weight), size)]


def rows_of(weight: torch.Tensor, rows: slice | torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Some rows (n, in) of a weight, a range of them or those with these numbers (n,); the weight is plain or `readable`."""
    if is_plain(weight):
        return weight[rows].to(dtype)
    codes, scale, zero, shift = _FORMS[_name(weight)](weight, rows)
    made = codes.to(dtype).view(len(codes), scale.shape[1], -1)
    if zero is not None:
        made.sub_(zero.to(dtype)[..., None])
    made.mul_(scale.to(dtype)[..., None])
    if shift is not None:
        made.sub_(shift.to(dtype)[..., None])
    return made.view(len(codes), -1)


def readable(module: Any) -> bool:
    """Whether a linear layer multiplies its input with a weight that `rows_of` reads, and does nothing else to it (a bias apart)."""
    weight: Any = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.dtype not in _DTYPES or weight.dim() != 2:
        return False
    if is_plain(weight):
        return type(module) is nn.Linear
    name = _name(weight)
    if name not in _FORMS:
        return False
    return _quanto_reads(module) if name.startswith("optimum.") else _torchao_reads(module)


def _name(thing: Any) -> str:
    """The package and the class of a module or a tensor; packages move their classes between their own modules."""
    return f"{type(thing).__module__.partition('.')[0]}.{type(thing).__name__}"


def _torchao_reads(module: Any) -> bool:
    weight, scale = module.weight, module.weight.scale
    return (
        type(module) is nn.Linear
        and all(getattr(weight, done, None) is None for done in _ON_INPUTS)
        and scale.dim() == 2
        and len(scale) in (1, len(weight))
        and weight.shape[1] % scale.shape[1] == 0
    )


def _of_torchao(weight: Any, rows: slice | torch.Tensor) -> _Codes:
    """Each row has its own scales, or all of them share one."""
    own = rows if len(weight.scale) == len(weight) else slice(None)
    zero = getattr(weight, "zero_point", None)
    return _Codes(weight.qdata[rows], weight.scale[own], None if zero is None else zero[own])


def _quanto_reads(module: Any) -> bool:
    weight = module.weight
    shift = getattr(weight, "_shift", weight._scale)  # numbers, as transformers has it quantise, or codes
    return (
        _name(module) == "optimum.QLinear"
        and module.activation_qtype is None
        and weight.axis == 0
        and shift.is_floating_point()
    )


def _of_quanto_bytes(weight: Any, rows: slice | torch.Tensor) -> _Codes:
    return _Codes(weight._data[rows], weight._scale[rows])


def _of_quanto_bits(weight: Any, rows: slice | torch.Tensor) -> _Codes:
    """quanto cuts rows into lines, one for each group, and lays lines that are far apart over each other: of `count` bytes' lines, the first holds the
    lines 0, count, 2 * count, ... from its lowest bits on."""
    packed, bits, groups = weight._data._data, weight._data._bits, len(weight._scale) // len(weight)
    lines = torch.arange(len(weight), device=packed.device)[rows, None] * groups
    lines = (lines + torch.arange(groups, device=packed.device)).flatten()
    codes = packed[lines % len(packed)]
    codes.bitwise_right_shift_((lines // len(packed) * bits).to(torch.uint8)[:, None]).bitwise_and_((1 << bits) - 1)
    scale, shift = (part[lines].view(-1, groups) for part in (weight._scale, weight._shift))
    return _Codes(codes.view(len(scale), -1), scale, shift=shift)


_FORMS: dict[str, Callable[[Any, slice | torch.Tensor], _Codes]] = {
    "torchao.Int8Tensor": _of_torchao,
    "torchao.IntxUnpackedToInt8Tensor": _of_torchao,
    "torchao.Float8Tensor": _of_torchao,
    "optimum.WeightQBytesTensor": _of_quanto_bytes,
    "optimum.WeightQBitsTensor": _of_quanto_bits,
}
