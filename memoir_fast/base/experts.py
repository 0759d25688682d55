"""Mixtures of experts: tells the projections that every token passes from those that a router sends only some tokens
to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn


def is_routed(path: str, module: Any) -> bool:
    """Whether a module belongs to routed experts, which only some tokens pass. (Every token passes a shared expert.)"""
    if "shared" in path.lower():
        return False
    return "expert" in path.lower() or "expert" in type(module).__name__.lower()


def has_experts(layer: nn.Module) -> bool:
    """Whether a decoder layer is a mixture of experts."""
    return any(is_routed(path, module) for path, module in layer.named_modules())


def refuse_mixture(layers_path: str, layers: nn.ModuleList, number: int, everyones: Iterable[str]) -> None:
    """Raise ValueError if a decoder layer is a mixture of experts; the message names what can be edited instead.

    Args:
        layers_path: the dotted path of the list of decoder layers.
        layers: that list.
        number: the layer's number.
        everyones: paths inside the layer of the FFN down projections that every token passes.
    """
    if not has_experts(layers[number]):
        return
    dense = [other for other, layer in enumerate(layers) if not has_experts(layer)]
    named = [f"{layers_path}.{number}.{path}" for path in everyones]
    ways = [f"layer={path!r}, which every token passes" for path in named]
    ways += [f"layer={dense[-1]}, the last dense layer"] if dense else []
    remedy = f"name what is to be edited: {'; or '.join(ways)}" if ways else "no layer of this model can be edited"
    raise ValueError(
        f"layer: decoder layer {number} is a mixture of experts: each token passes only those that its router chooses, so there is no "
        f"one FFN down projection; {remedy}"
    )


def check_not_routed(layer: nn.Module, path: str) -> None:
    """Raise ValueError for a projection, given by its path inside the layer, that belongs to routed experts."""
    parts = path.split(".")
    inside = [".".join(parts[: n + 1]) for n in range(len(parts))]
    if any(is_routed(part, layer.get_submodule(part)) for part in inside):
        raise ValueError(
            f"layer: {path!r} belongs to routed experts, which only some tokens pass; name a shared expert's or a dense layer's projection"
        )
