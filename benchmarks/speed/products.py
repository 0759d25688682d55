"""What the matrix products of one step of an edit take by themselves: the floor that `bigmodel.py` measures steps against."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.speed.big_watch import Taken, middle, now

Form = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# The ways to compute x @ W^T and g @ W; whichever is the fastest for a shape counts.
FORWARD: dict[str, Form] = {
    "x W^T": lambda weight, x: nn.functional.linear(x, weight),
    "W x^T": lambda weight, x: weight @ x.T.contiguous(),
}
BACKWARD: dict[str, Form] = {
    "g W": lambda weight, g: g @ weight,
    "W^T g^T": lambda weight, g: weight.T @ g.T.contiguous(),
}


@dataclass(frozen=True)
class Product:
    """A product of a weight (out, in) with some rows.

    Attributes:
        weight: the model's own, so that it is read from main memory as in a step.
        rows: how many rows are multiplied with it.
        backward: whether a gradient (rows, out) goes back through it, instead of an input (rows, in).
    """

    weight: torch.Tensor
    rows: int
    backward: bool

    @property
    def kind(self) -> tuple[Any, ...]:
        """Products of one kind take the same time."""
        return (*self.weight.shape, self.rows, self.backward)


def products_of(model: Any, layers: list[Any], acting: int, aims: int, head_rows: int) -> list[Product]:
    """The products of one step, forward and backward.

    Args:
        model: its output embedding is the last matrix.
        layers: the decoder layers above the projection; of the last one only keys and values are needed for all acting tokens.
        acting: tokens that change from step to step. aims: those that predict a target token.
        head_rows: how many rows of the output embedding take part.
    """
    found = []
    for layer in layers:
        for name, module in layer.named_modules():
            if isinstance(module, nn.Linear):
                everywhere = layer is not layers[-1] or name.endswith(("k_proj", "v_proj"))
                found.append((module.weight.detach(), acting if everywhere else aims))
    found.append((model.get_output_embeddings().weight.detach()[:head_rows], aims))
    return [Product(weight, rows, False) for weight, rows in found] + [
        Product(weight, rows, True) for weight, rows in reversed(found)
    ]


class Products:
    """Some products, each computed in the fastest way that was found for its kind."""

    def __init__(self, products: list[Product]):
        self.products = products
        self._inputs = {
            product.kind: torch.randn(product.rows, product.weight.shape[0 if product.backward else 1]).to(
                product.weight.dtype
            )
            for product in products
        }
        self._forms = {kind: self._fastest(kind) for kind in self._inputs}

    def _fastest(self, kind: tuple[Any, ...]) -> Form:
        """Of three rounds over all weights of this kind, so that caches hold no more than in a step."""
        weights, rows = [p.weight for p in self.products if p.kind == kind], self._inputs[kind]
        seconds: dict[str, float] = {}
        forms = BACKWARD if kind[-1] else FORWARD
        for name, form in forms.items():
            for _ in range(3):
                began = time.perf_counter()
                for weight in weights:
                    form(weight, rows)
                seconds[name] = min(seconds.get(name, float("inf")), time.perf_counter() - began)
        return forms[min(seconds, key=lambda name: seconds[name])]

    @property
    def operations(self) -> int:
        """Additions and multiplications."""
        return sum(2 * p.weight.numel() * p.rows for p in self.products)

    def seconds(self, rounds: int = 5) -> Taken:
        """Median time of all of them, one after the other."""
        found = []
        for _ in range(rounds):
            began = now()
            for product in self.products:
                self._forms[product.kind](product.weight, self._inputs[product.kind])
            found.append(now() - began)
        return middle(found)
