"""The parts of a decoder layer that `suffix.py` runs forward and backward by hand: norms and linear layers."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn


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


def affine(module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """x (n, in) float32 through a linear layer, computed in its weight's dtype: (n, out) float32."""
    return nn.functional.linear(x.to(module.weight.dtype), module.weight, module.bias).float()


def back(gradient: torch.Tensor, module: nn.Linear, onto: torch.Tensor | None = None) -> torch.Tensor:
    """The gradient (n, in) float32 with respect to the input of `affine`, from its output's (n, out); added to `onto`
    if given."""
    weight = module.weight
    if weight.dtype == torch.float32 and onto is not None:
        return onto.addmm_(gradient, weight)
    product = (gradient.to(weight.dtype) @ weight).float()
    return product if onto is None else onto.add_(product)
