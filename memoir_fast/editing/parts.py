"""The parts of a decoder layer that `suffix.py` runs forward and backward by hand: norms and linear layers."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

_WIDENED = 1 << 22  # numbers of a bfloat16 weight that are float32 at a time: 16 MB


class RmsNorm(Protocol):
    """The attributes used of a transformers RMS norm; weight is (h,)."""

    weight: torch.Tensor
    variance_epsilon: float


def _rms(x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    inverse = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return x * inverse * weight, inverse


def _rms_backward(gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    scaled, unit = gradient * weight, x * inverse
    return (scaled - unit * (scaled * unit).mean(-1, keepdim=True)).mul_(inverse)


class Norm:
    """An RMS norm over the last dimension that remembers its input."""

    def __init__(self, module: RmsNorm):
        self.weight, self.eps = module.weight.detach().float(), module.variance_epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., h) float32, normalised."""
        self._x = x
        out, self._inverse = _rms(x, self.weight, self.eps)
        return out

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient with respect to the last input of `forward`, from that of its output; same shapes."""
        return _rms_backward(gradient, self._x, self.weight, self._inverse)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 units; a CPU without them is several times slower in bfloat16 than in float32."""
    if device.type != "cpu":
        return True
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))


def widens(weight: torch.Tensor) -> bool:
    """Whether products with a weight are computed in float32 though it is narrower, by blocks of its rows."""
    return weight.dtype == torch.bfloat16 and not has_bfloat16(weight.device)


def blocks_of(weight: torch.Tensor) -> list[slice]:
    """A weight's rows in blocks, as many in each as are turned into float32 at a time."""
    size = max(1, _WIDENED // weight.shape[1])
    return [slice(start, min(start + size, len(weight))) for start in range(0, len(weight), size)]


def affine(module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """x (n, in) float32 through a linear layer, computed in its weight's dtype or in float32: (n, out) float32."""
    weight, bias = module.weight, module.bias
    if not widens(weight):
        return nn.functional.linear(x.to(weight.dtype), weight, bias).float()
    out = torch.cat([x @ weight[rows].float().T for rows in blocks_of(weight)], 1)
    return out if bias is None else out.add_(bias)


def back(gradient: torch.Tensor, module: nn.Linear, onto: torch.Tensor | None = None) -> torch.Tensor:
    """The gradient (n, in) float32 with respect to the input of `affine`, from its output's (n, out); added to `onto`
    if given."""
    weight = module.weight
    if widens(weight):
        found = gradient.new_zeros(len(gradient), weight.shape[1]) if onto is None else onto
        for rows in blocks_of(weight):
            found.addmm_(gradient[:, rows], weight[rows].float())
        return found
    if weight.dtype == torch.float32 and onto is not None:
        return onto.addmm_(gradient, weight)
    product = (gradient.to(weight.dtype) @ weight).float()
    return product if onto is None else onto.add_(product)
