"""Finds the FFN down projection that carries the memory, from the structure of the model's modules."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from ..defaults import default_layer
from .causal_lm import CausalLM, text_config
from .experts import check_not_routed, is_routed, refuse_mixture

# Parts of a decoder layer that mix tokens; their output projections are not an FFN's. (Mamba layers have no others:
# give a path.)
_MIXERS = ("attn", "attention", "mamba", "ssm", "recurrent", "temporal", "conv")
_MIXER_CLASSES = ("attn", "attention", "mambamixer", "mamba2mixer")


@dataclass(frozen=True)
class Target:
    """Where the memory is.

    Attributes:
        path: the projection's dotted path.
        layers_path: that of the list of decoder layers.
        layer: the number of the projection's decoder layer.
        in_features: D, the projection's input width.
        out_features: d, its output width.
    """

    path: str
    layers_path: str
    layer: int
    in_features: int
    out_features: int


def layers_of(model: CausalLM, target: Target) -> nn.ModuleList:
    """The list of the model's decoder layers."""
    return cast(nn.ModuleList, model.get_submodule(target.layers_path))


def linear_sizes(module: Any) -> tuple[int, int] | None:
    """(in_features, out_features) of a linear module (nn.Linear, quantised, adapted, or GPT-2's Conv1D); None for
    another."""
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        return int(module.in_features), int(module.out_features)
    if hasattr(module, "nx") and hasattr(module, "nf"):  # transformers' Conv1D stores its weight as (in, out)
        return int(module.nx), int(module.nf)
    return None


def find_target(model: CausalLM, layer: int | str | None = None) -> Target:
    """The projection to edit.

    Args:
        model: a Hugging Face causal language model, not in a wrapper.
        layer: None, a decoder layer's number, or a dotted path; see `MemoirConfig.layer`.

    Raises:
        ValueError: there is no such layer or module, the layer has no single FFN down projection, or it is a mixture of
            experts. The message lists what was found. (In a mixture, a shared expert can be chosen by its path.)
    """
    layers_path, layers = _decoder_layers(model)
    if isinstance(layer, str):
        path = own_path(re.sub(r"\.(weight|bias)$", "", re.sub(r"\[(\d+)\]", r".\1", layer.strip())))
        try:
            module = model.get_submodule(path)
        except AttributeError as error:
            raise ValueError(f"layer: the model has no module {path!r} (from {layer!r}); {error}") from None
        sizes = linear_sizes(module)
        if sizes is None:
            raise ValueError(f"layer: {path!r} is a {type(module).__name__}, expected a linear projection")
        prefix = f"{layers_path}."
        if not path.startswith(prefix):
            raise ValueError(f"layer: {path!r} is not inside the decoder layers {layers_path!r}")
        own, _, inside = path[len(prefix) :].partition(".")
        check_not_routed(layers[int(own)], inside)
        return Target(path, layers_path, int(own), *sizes)
    number = default_layer(len(layers)) if layer is None else layer
    if not -len(layers) <= number < len(layers):
        raise ValueError(f"layer must be in [{-len(layers)}, {len(layers) - 1}] for this model, got {number}")
    number %= len(layers)
    return _down_projection(model, layers_path, layers, number)


def own_path(path: str) -> str:
    """A module's path inside the transformers model, from a path that begins at a wrapper."""
    return re.sub(r"^(base_model\.model\.|_orig_mod\.|module\.|pretrained_model\.)+", "", path)


def _decoder_layers(model: CausalLM) -> tuple[str, nn.ModuleList]:
    """The path and the list of the text decoder's layers: the ModuleList with as many items as the text configuration
    says.

    It is looked for in what transformers calls the decoder first, since a model can have other stacks for images and
    sound.
    """
    depth = getattr(text_config(model), "num_hidden_layers", None)
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    for inside in (decoder, model):
        found = [
            (path, module)
            for path, module in model.named_modules()
            if isinstance(module, nn.ModuleList) and len(module) == depth and _is_inside(module, inside)
        ]
        if found:
            return min(found, key=lambda item: item[0].count("."))
    # A configuration may count something else: BlenderBot's counts the encoder's layers.
    stacks = [m for m in decoder.children() if isinstance(m, nn.ModuleList)] if decoder is not None else []
    if len(stacks) == 1:
        return next(path for path, module in model.named_modules() if module is stacks[0]), stacks[0]
    raise ValueError(f"model: found no list of {depth} decoder layers in {type(model).__name__}")


def _leads_up(path: str, others: Iterable[str]) -> bool:
    """Whether a projection with as many outputs as the layer is a gate or an up projection of the module that holds it, beside a down projection."""
    parent, _, name = path.rpartition(".")
    beside = [other.rpartition(".")[2] for other in others if other.rpartition(".")[0] == parent]
    return any(_names_up(name) and not _names_up(other) for other in beside)


def _names_up(name: str) -> bool:
    return "gate" in name or "up" in name.split("_")


def _is_inside(module: nn.Module, other: nn.Module | None) -> bool:
    return other is not None and any(part is module for part in other.modules())


def _down_projection(model: CausalLM, layers_path: str, layers: nn.ModuleList, number: int) -> Target:
    hidden = text_config(model).hidden_size
    found: dict[str, tuple[int, int]] = {}
    for path, module in layers[number].named_modules():
        inside = [layers[number].get_submodule(path.rsplit(".", up)[0]) for up in range(1, path.count(".") + 1)]
        classes = " ".join(type(m).__name__.lower() for m in inside)
        mixing = any(part in path.lower() for part in _MIXERS) or any(part in classes for part in _MIXER_CLASSES)
        sizes = linear_sizes(module)
        # An adapted or quantised projection contains its own base projection; the outermost one counts.
        nested = any(path.startswith(f"{other}.") for other in found)
        if sizes and sizes[1] == hidden and not mixing and not nested:
            if not is_routed(path, module):
                found[path] = sizes
    found = {path: sizes for path, sizes in found.items() if not _leads_up(path, found)}
    widest = max((sizes[0] for sizes in found.values()), default=0)
    best = [path for path, sizes in found.items() if sizes[0] == widest]
    refuse_mixture(layers_path, layers, number, best)
    if not best:
        raise ValueError(
            f"layer: decoder layer {number} has no FFN down projection, a linear layer of {hidden} outputs outside of attention; try another"
        )
    if len(best) > 1:
        raise ValueError(
            f"layer: decoder layer {number} has {len(best)} candidates for the FFN down projection: pass the dotted path of one as layer, "
            f"{', '.join(f'{layers_path}.{number}.{path}' for path in best[:8])}"
        )
    return Target(f"{layers_path}.{number}.{best[0]}", layers_path, number, *found[best[0]])
