"""The rows of quantised weights, as torchao, optimum-quanto and bitsandbytes store them.

All store codes, and a scale for each row or for each group of columns in a row. The packages give a weight's numbers only as a whole, or at the
price of a product, so what they store is read here; none of them is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import nn

Rows = slice | torch.Tensor
# What torchao does to a layer's input before it multiplies.
_ON_INPUTS = ("act_quant_kwargs", "act_pre_scale", "activation_quantization")


class _Codes(NamedTuple):
    """Rows of a weight, which is (codes - zero) * scale - shift. codes is (n, in), what is stored or what that stands for in a table; the others
    are (n, groups), (1, groups) or None."""

    codes: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor | None = None
    shift: torch.Tensor | None = None


def known(module: Any, weight: Any) -> bool:
    """Whether a linear layer multiplies with a weight of a kind that `rows_of` reads, and with its input as it is."""
    form = _FORMS.get(_name(weight))
    return form is not None and form.fits(module, weight)


def rows_of(weight: torch.Tensor, rows: Rows, dtype: torch.dtype) -> torch.Tensor:
    """Some rows (n, in) of a weight that is `known`."""
    codes, scale, zero, shift = _FORMS[_name(weight)].read(weight, rows)
    made = codes.to(dtype).view(len(codes), scale.shape[1], -1)
    if zero is not None:
        made.sub_(zero.to(dtype)[..., None])
    made.mul_(scale.to(dtype)[..., None])
    if shift is not None:
        made.sub_(shift.to(dtype)[..., None])
    return made.view(len(codes), -1)


def _name(thing: Any) -> str:
    """The package and the class of a module or a tensor; packages move their classes between their own modules."""
    return f"{type(thing).__module__.partition('.')[0]}.{type(thing).__name__}"


# ---- torchao -----------------------------------------------------------------------------------------------------


def _is_torchao(module: Any, weight: Any) -> bool:
    scale = weight.scale
    return (
        type(module) is nn.Linear
        and all(getattr(weight, done, None) is None for done in _ON_INPUTS)
        and scale.dim() == 2
        and len(scale) in (1, len(weight))
        and weight.shape[1] % scale.shape[1] == 0
    )


def _of_torchao(weight: Any, rows: Rows) -> _Codes:
    """Each row has its own scales, or all of them share one."""
    own = rows if len(weight.scale) == len(weight) else slice(None)
    zero = getattr(weight, "zero_point", None)
    return _Codes(weight.qdata[rows], weight.scale[own], None if zero is None else zero[own])


# ---- optimum-quanto ----------------------------------------------------------------------------------------------


def _is_quanto(module: Any, weight: Any) -> bool:
    shift = getattr(weight, "_shift", weight._scale)  # numbers, as transformers has it quantise, or codes
    return (
        _name(module) == "optimum.QLinear"
        and module.activation_qtype is None
        and weight.axis == 0
        and shift.is_floating_point()
    )


def _of_quanto_bytes(weight: Any, rows: Rows) -> _Codes:
    return _Codes(weight._data[rows], weight._scale[rows])


def _of_quanto_bits(weight: Any, rows: Rows) -> _Codes:
    """Rows are cut into lines, one for each group, and lines that are far apart lie over each other: of `count` lines of bytes, the first holds the
    lines 0, count, 2 * count, ... from its lowest bits on."""
    packed, bits, groups = weight._data._data, weight._data._bits, len(weight._scale) // len(weight)
    count, device = len(packed), packed.device
    lines = torch.arange(len(weight), device=device)[rows, None] * groups
    lines = (lines + torch.arange(groups, device=device)).flatten()
    codes = packed[lines % count]
    codes.bitwise_right_shift_((lines // count * bits).to(torch.uint8)[:, None]).bitwise_and_((1 << bits) - 1)
    scale, shift = (part[lines].view(-1, groups) for part in (weight._scale, weight._shift))
    return _Codes(codes.view(len(scale), -1), scale, shift=shift)


# ---- bitsandbytes ------------------------------------------------------------------------------------------------


def _is_bitsandbytes(module: Any, weight: Any) -> bool:
    state = getattr(weight, "quant_state", None)  # None before the weight is quantised
    return _name(module) == "bitsandbytes.Linear4bit" and state is not None and state.shape[1] % state.blocksize == 0


def _of_bitsandbytes(weight: Any, rows: Rows) -> _Codes:
    """4-bit places in a table, two to a byte. On a CPU with AVX-512 BF16 the package lays a weight out anew when it is first multiplied: of 32 rows, row b
    and row b + 16 share their bytes, and the columns come in pairs."""
    state, packed = weight.quant_state, weight.data.view(torch.uint8)
    (count, width), device = state.shape, packed.device
    rows = torch.arange(count, device=device)[rows]
    if getattr(state, "packing_format_for_cpu", False):
        codes = packed.view(count // 32, width // 2, 16, 2)[rows // 32, :, rows % 16].flatten(1)
        codes.bitwise_right_shift_((rows % 32 // 16 * 4).to(torch.uint8)[:, None])
        scale = state.absmax[:, rows].T
    else:
        groups = width // state.blocksize
        codes = packed.view(count, width // 2)[rows]
        codes = torch.stack([codes >> 4, codes], -1).flatten(1)
        scale = _bitsandbytes_scale(state, rows[:, None] * groups + torch.arange(groups, device=device))
    return _Codes(state.code[codes.bitwise_and_(15).int()], scale)


def _bitsandbytes_scale(state: Any, places: torch.Tensor) -> torch.Tensor:
    """The scales of some groups, which may be quantised themselves, a byte each."""
    found = state.absmax[places]
    if state.nested:
        inner = state.state2
        found = inner.code[found.int()] * inner.absmax[places // inner.blocksize] + state.offset
    return cast(torch.Tensor, found)


class _Form(NamedTuple):
    fits: Callable[[Any, Any], bool]
    read: Callable[[Any, Rows], _Codes]


_FORMS = {
    "torchao.Int8Tensor": _Form(_is_torchao, _of_torchao),
    "torchao.IntxUnpackedToInt8Tensor": _Form(_is_torchao, _of_torchao),
    "torchao.Float8Tensor": _Form(_is_torchao, _of_torchao),
    "optimum.WeightQBytesTensor": _Form(_is_quanto, _of_quanto_bytes),
    "optimum.WeightQBitsTensor": _Form(_is_quanto, _of_quanto_bits),
    "bitsandbytes.Params4bit": _Form(_is_bitsandbytes, _of_bitsandbytes),
}
