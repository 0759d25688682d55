"""The parts of a decoder layer that `suffix.py` runs forward and backward by hand: norms and linear layers."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from .weights import blocks_of, is_whole, product_dtype, rows_of


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
    """x (n, in) float32 through a linear layer, whose weight is multiplied as it is or by blocks of its rows: (n, out) float32."""
    weight, bias, dtype = module.weight, module.bias, product_dtype(module.weight)
    x = x.to(dtype)
    if is_whole(weight):
        return nn.functional.linear(x, weight, bias).float()
    out = torch.cat([(x @ rows_of(weight, rows, dtype).T).float() for rows in blocks_of(weight)], 1)
    return out if bias is None else out.add_(bias)


def back(gradient: torch.Tensor, module: nn.Linear, onto: torch.Tensor | None = None) -> torch.Tensor:
    """The gradient (n, in) float32 with respect to the input of `affine`, from its output's (n, out); added to `onto`
    if given."""
    weight, dtype = module.weight, product_dtype(module.weight)
    if is_whole(weight):
        return (gradient.to(dtype) @ weight).float() if onto is None else add_product(onto, gradient, weight)
    found = gradient.new_zeros(len(gradient), module.in_features) if onto is None else onto
    for rows in blocks_of(weight):
        add_product(found, gradient[:, rows], rows_of(weight, rows, dtype))
    return found


def add_product(onto: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Add left (n, rows) float32 times right (rows, in) to `onto` (n, in) float32, multiplied in the dtype of `right`."""
    if right.dtype == torch.float32:
        return onto.addmm_(left, right)
    return onto.add_(left.to(right.dtype) @ right)
