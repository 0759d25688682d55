"""What runs before the layers above the projection: once per edit, and for what all chats begin with, once per model.

All sequences of a chat's edit begin with the same tokens, those of the chat template before the user's words. They see
nothing behind them, so one pass over them serves every sequence of every edit: its keys and values are kept, and each
edit runs only its own tokens behind them.
"""

from __future__ import annotations

import copy
import inspect
import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from ..base.attachment import is_ours
from ..base.causal_lm import CausalLM
from ..base.projection import Target, layers_of
from ..base.running import versions_of
from ..reading.probe import run_to_projection
from ..reading.router import Router
from .layout import Layout

_LEAST = 8  # tokens: a shorter beginning does not pay for a second pass


@dataclass(frozen=True)
class States:
    """Of n tokens: the projection's input (n, D) and output (n, d) without the memory, and the (n, d) states that its
    output is added to."""

    activations: torch.Tensor
    outputs: torch.Tensor
    residual: torch.Tensor

    def parts(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The three together."""
        return self.activations, self.outputs, self.residual


@dataclass(frozen=True)
class _Beginning:
    """The tokens that all sequences begin with, run once; `weights` tells whether the model is still the same."""

    tokens: list[int]
    weights: list[tuple[int, int]]
    states: States
    cache: DynamicCache


class Below:
    """Runs layouts through the model as far as the projection, for models that `suffix.supports`.

    Args:
        model, router, target: as for `Replay`.
    """

    def __init__(self, model: CausalLM, router: Router, target: Target):
        self.model, self.router, self.target = model, router, target
        self._kept: _Beginning | None = None

    @torch.no_grad()
    def states(self, layout: Layout) -> States:
        """The states (R * T, ...) at a layout's flat positions; those of padding mean nothing."""
        begin = _beginning(layout)
        if len(begin) < _LEAST:
            return self._run(layout.inputs)
        shared = self._shared(begin, layout.tokens.device)
        lengths = torch.bincount(layout.sequences).tolist()
        rest, mask = self._behind(layout, begin, lengths)
        cache = copy.deepcopy(shared.cache)
        cache.batch_repeat_interleave(len(lengths))
        found = self._run({"input_ids": rest, "attention_mask": mask} | self._filling(cache))
        rows, width = rest.shape
        places = [part.split([len(begin), len(part) - len(begin)]) for part in layout.tokens.split(lengths)]
        whole = []
        for own, of_begin in zip(found.parts(), shared.states.parts(), strict=True):
            flat = own.new_zeros(layout.shape[0] * layout.shape[1], own.shape[-1])
            for (first, behind), line in zip(places, own.view(rows, width, -1), strict=True):
                flat[first], flat[behind] = of_begin, line[: len(behind)]
            whole.append(flat)
        return States(*whole)

    def _behind(self, layout: Layout, begin: list[int], lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens behind the beginning, padded at the right (B, T), and the attention mask (B, beginning + T);
        causality hides the padding."""
        ids = layout.inputs["input_ids"].flatten()[layout.tokens].split(lengths)
        rest = nn.utils.rnn.pad_sequence([part[len(begin) :] for part in ids], batch_first=True)
        return rest, torch.ones(len(rest), len(begin) + rest.shape[1], dtype=torch.int64, device=rest.device)

    def _shared(self, tokens: list[int], device: torch.device) -> _Beginning:
        """The beginning's states, kept from the last edit if neither it nor the model has changed."""
        weights = self._weights()
        kept = self._kept
        if kept is None or weights is None or kept.tokens != tokens or kept.weights != weights:
            cache = DynamicCache()
            states = self._run({"input_ids": torch.tensor([tokens], device=device)} | self._filling(cache))
            kept = _Beginning(tokens, weights or [], states, cache)
            self._kept = kept if weights is not None else None
        return kept

    def _weights(self) -> list[tuple[int, int]] | None:
        """Changes when weights are trained, loaded or moved; None if that cannot be told, or if anything but weights
        decides what the model computes (hooks, adapters, functions in the place of `forward`)."""
        modules = list(self.model.modules())
        if not all(_is_plain(module) for module in modules):
            return None
        return versions_of([*self.model.parameters(), *self.model.buffers()])

    def _filling(self, cache: DynamicCache) -> dict[str, Any]:
        """The arguments with which a forward pass reads and fills a cache; transformers renamed one of them in 5.24."""
        names = inspect.signature(self.model.forward).parameters
        return {"cache" if "cache" in names else "past_key_values": cache, "use_cache": True}

    def _run(self, inputs: dict[str, Any]) -> States:
        own: Any = layers_of(self.model, self.target)[self.target.layer]
        owner = threading.get_ident()
        seen: list[torch.Tensor] = []

        def remember(module: nn.Module, args: tuple[Any, ...]) -> None:
            if threading.get_ident() == owner:  # another thread may be reading through the same module
                seen.append(args[0])

        handle = own.post_attention_layernorm.register_forward_pre_hook(remember)
        try:
            activations, outputs = run_to_projection(self.model, self.router, inputs)
        finally:
            handle.remove()
        return States(*(part.reshape(-1, part.shape[-1]) for part in (activations, outputs, seen[0])))


def _beginning(layout: Layout) -> list[int]:
    """The tokens before the first prompt's words, as far as all sequences have them."""
    lengths = torch.bincount(layout.sequences).tolist()
    ids = layout.inputs["input_ids"].flatten()
    parts = ids[layout.tokens].split(lengths)
    most = min(int(layout.words[0][0] - layout.tokens[0]), *(length - 1 for length in lengths))
    first = parts[0][:most]
    for part in parts[1:]:
        same = (part[: len(first)] == first).long().cumprod(0)
        first = first[: int(same.sum())]
    return first.tolist()


def _is_plain(module: nn.Module) -> bool:
    """Whether a module computes what its class says, from its parameters."""
    own = type(module).__module__
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    return (
        own.startswith(("torch.nn.modules.", "transformers."))
        and all(is_ours(hook) for hook in hooks)
        and (not hasattr(module, "_hf_hook"))
        and ("forward" not in module.__dict__ or is_ours(module.__dict__["forward"]))
    )
