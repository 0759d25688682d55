"""The layers above the edited projection, with hand-written forward and backward passes, for blocks like Llama's.

An edit needs two things per step: the loss, and its gradient with respect to the projection's outputs. Writing the step
out saves work that `replay.py` cannot save:

* the last layer's queries and FFN, and the head, run at target positions only;
* tokens before those at which the memory acts are computed once (attention is causal, so they never change); later
  tokens use their stored keys and values;
* attention runs per sequence, and nothing else runs on padding;
* nothing is recorded for gradients that are not needed;
* the head's two products run over blocks of the vocabulary;
* of a quantised weight, no more than a block of rows is in floating point at a time.

Other model families, and adapted or dispatched models, go through `replay.py`, as do quantised models whose layers also
quantise what enters them. The tests hold both to the same values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
from torch import nn

from ..base.attachment import is_ours
from ..base.causal_lm import CausalLM
from ..base.projection import Target, layers_of
from ..base.running import device_of
from ..reading.router import Router
from .below import Below
from .head import heads_of
from .layout import Layout
from .parts import Norm, RmsNorm, affine, back
from .places import Places
from .replay import Halved
from .weights import readable

_FAMILIES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


class _Attention(Protocol):
    head_dim: int
    scaling: float
    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    o_proj: nn.Linear


class _Mlp(Protocol):
    gate_proj: nn.Linear
    up_proj: nn.Linear
    down_proj: nn.Linear


class _Layer(Protocol):
    """The attributes used of a transformers decoder layer."""

    self_attn: _Attention
    mlp: _Mlp
    input_layernorm: RmsNorm
    post_attention_layernorm: RmsNorm


def supports(model: CausalLM, target: Target) -> bool:
    """Whether `Suffix` can run what comes after the target: known blocks in float32 or bfloat16, or with quantised weights that it reads, on one
    device, and not adapted or observed by anyone's hooks."""
    if type(model).__name__ not in _FAMILIES or not type(model).__module__.startswith("transformers."):
        return False
    config, head = model.config, model.get_output_embeddings()
    above = layers_of(model, target)[target.layer + 1 :]
    linears = [getattr(part, f"{name}_proj") for layer in above for part, names in _linears(layer) for name in names]
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return (
        target.path == f"{target.layers_path}.{target.layer}.mlp.down_proj"
        and config.hidden_act == "silu"
        and not windowed
        and all(map(readable, [*linears, head]))
        and {m.weight.device for m in [*linears, head]} == {device_of(model.get_submodule(target.path))}
        and head.bias is None
        and not any(_observed(m) for part in (*above, head, _inner(model, target).norm) for m in part.modules())
    )


def _observed(module: nn.Module) -> bool:
    """Whether anything besides the module takes part in its forward pass: hooks, or accelerate where it brings the module's weights from elsewhere.
    (Where it only sees to the inputs' device, as above layers that stay on a disk, the weights lie where they are used.)"""
    before = any(not is_ours(hook) for hook in module._forward_pre_hooks.values())
    placed = getattr(module, "_hf_hook", None)
    moved = placed is not None and (type(placed).__name__ != "AlignDevicesHook" or bool(placed.offload))
    return before or bool(module._forward_hooks) or moved


def _inner(model: CausalLM, target: Target) -> Any:
    """The module that holds the decoder layers, the final norm and the rotary angles."""
    return model.get_submodule(target.layers_path.rpartition(".")[0])


def _linears(layer: Any) -> Iterable[tuple[Any, Iterable[str]]]:
    return (layer.self_attn, "qkvo"), (layer.mlp, ("gate", "up", "down"))


class Suffix:
    """The forward and backward passes of one edit's steps; the same interface as `Replay`.

    Args:
        model, router, target: as for `Replay`; `supports(model, target)` must hold.
        layout: the edit's tokens.
        sparse: except in the first steps and every eighth, only the 4,096 likeliest tokens compete in the softmax; the
            others keep the probability mass that they had.
        halved: (layers, head) copies in bfloat16 for the matrix products, or None.
        below: runs the layers up to the projection; None for one of its own.

    Attributes:
        activations: (R, T, D) the projection's input, fixed during the edit.
        outputs: (R, T, d) the projection's output without the memory, fixed during the edit.
    """

    def __init__(
        self,
        model: CausalLM,
        router: Router,
        target: Target,
        layout: Layout,
        sparse: bool = False,
        halved: Halved | None = None,
        below: Below | None = None,
    ):
        self.layout = layout
        layers = layers_of(model, target)
        rows, width = layout.shape
        states = (below or Below(model, router, target)).states(layout)
        self.activations, self.outputs = states.activations.view(rows, width, -1), states.outputs.view(rows, width, -1)
        residual = states.residual[layout.tokens].float()
        inner = _inner(model, target)
        cos, sin = inner.rotary_emb(residual, layout.positions[None])
        every = Places(layout, torch.arange(len(layout.tokens), device=layout.tokens.device), (cos[0], sin[0]))
        moving = Places(layout, layout.acting, (cos[0], sin[0])) if len(layout.acting) < len(layout.tokens) else every
        aims = Places(layout, layout.aims, (cos[0], sin[0]))
        within = torch.searchsorted(layout.acting, layout.aims)
        above = list(layers[target.layer + 1 :]) if halved is None else list(halved[0].values())
        self._blocks = [_Block(cast(_Layer, layer), every, moving, moving) for layer in above[:-1]]
        self._blocks += [_Block(cast(_Layer, layer), every, moving, aims, within) for layer in above[-1:]]
        self._trim = None if above else within
        self._residual = residual[layout.acting]
        if moving is not every:
            self._prime(residual + self.outputs.reshape(rows * width, -1)[layout.tokens].float())
        self._norm = Norm(inner.norm)
        head: Any = model.get_output_embeddings() if halved is None else halved[1]
        self._heads = heads_of(head.weight, layout, sparse)

    @torch.no_grad()
    def _prime(self, hidden: torch.Tensor) -> None:
        """Store each layer's keys and values of the tokens that never change. hidden: (n, h), the first layer's input
        without the memory."""
        for block in self._blocks[:-1]:
            hidden = block.prime(hidden)
        for block in self._blocks[-1:]:
            block.keep(hidden)

    @property
    def next_is_full(self) -> bool:
        """Whether the whole vocabulary takes part in the next pass."""
        return self._heads[0].next_is_full

    @torch.no_grad()
    def losses_and_gradient(self, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `Replay.losses_and_gradient`: outputs (a, d) float32 to (m,) weighted losses and the gradient (a, d) of
        their sum."""
        hidden = self._residual + outputs
        for block in self._blocks:
            hidden = block.forward(hidden)
        if self._trim is not None:
            hidden = hidden[self._trim]
        parts = self._norm.forward(hidden).split([len(head.labels) for head in self._heads])
        found = [head.losses_and_gradient(part) for head, part in zip(self._heads, parts, strict=True)]
        losses, gradient = (torch.cat(both) for both in zip(*found, strict=True))
        gradient = self._norm.backward(gradient)
        if self._trim is not None:
            gradient = torch.zeros_like(outputs).index_copy_(0, self._trim, gradient)
        for block in reversed(self._blocks):
            gradient = block.backward(gradient)
        return losses, gradient


@dataclass
class _Block:
    """One decoder layer.

    Attributes:
        every: all tokens; their keys and values are read.
        moving: the tokens that change from step to step; `forward` gets these.
        queries: the tokens whose output is needed: the moving ones, or in the last layer the targets.
        within: the queries as indices into the moving tokens; None for all of them.
    """

    layer: _Layer
    every: Places
    moving: Places
    queries: Places
    within: torch.Tensor | None = None
    _fixed: tuple[torch.Tensor, torch.Tensor] | None = None
    _kept: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        attention = self.layer.self_attn
        self.size, self.scaling = attention.head_dim, attention.scaling
        self.groups = attention.k_proj.out_features // self.size
        self.norm, self.mlp_norm = Norm(self.layer.input_layernorm), Norm(self.layer.post_attention_layernorm)
        self.q_norm, self.k_norm = (
            Norm(getattr(attention, n)) if hasattr(attention, n) else None for n in ("q_norm", "k_norm")
        )
        # A query sees the keys up to its own position in its sequence; padding keys come last, so it never sees them.
        keys = torch.arange(self.every.grid[1], device=self.every.tokens.device)
        hidden = keys[None, None, :] > self.queries.positions[:, :, None]  # (sequences, queries, keys)
        heads = attention.q_proj.out_features // self.size // self.groups
        mask = torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -torch.inf)
        self.mask = mask[:, None].expand(-1, self.groups, -1, -1).repeat(1, 1, heads, 1).flatten(0, 1)

    def _heads(self, x: torch.Tensor, norm: Norm | None) -> torch.Tensor:
        x = x.view(len(x), -1, self.size)
        return x if norm is None else norm.forward(x)

    def prime(self, x: torch.Tensor) -> torch.Tensor:
        """`keep`, then return this layer's output (n, h) for all tokens without the memory."""
        self.keep(x)
        return _Block(self.layer, self.every, self.every, self.every).forward(x)

    def keep(self, x: torch.Tensor) -> None:
        """Store the keys and values of all tokens x (n, h); `forward` replaces those of the moving tokens."""
        self._fixed = self._keys_and_values(self.norm.forward(x), self.every)

    def _keys_and_values(self, normed: torch.Tensor, places: Places) -> tuple[torch.Tensor, torch.Tensor]:
        attention = self.layer.self_attn
        k = places.rotate(self._heads(affine(attention.k_proj, normed), self.k_norm))
        return k, affine(attention.v_proj, normed).view(len(normed), -1, self.size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The moving tokens x (a, h) to the output (q, h) at the queries."""
        attention = self.layer.self_attn
        normed = self.norm.forward(x)
        asking = normed if self.within is None else normed[self.within]
        q = self.queries.rotate(self._heads(affine(attention.q_proj, asking), self.q_norm))
        k, v = self._keys_and_values(normed, self.moving)
        if self._fixed is not None:
            k, v = (all_.index_copy(0, self.moving.tokens, new) for all_, new in zip(self._fixed, (k, v), strict=True))
        q, k, v = (
            self.queries.spread(q, self.groups),
            self.every.spread(k, self.groups),
            self.every.spread(v, self.groups),
        )
        weights = torch.baddbmm(self.mask, q, k.transpose(1, 2), alpha=self.scaling).softmax(-1)
        mixed = self.queries.collect(weights @ v, self.groups).flatten(1)
        middle = (x if self.within is None else x[self.within]) + affine(attention.o_proj, mixed)
        mlp = self.layer.mlp
        inner = self.mlp_norm.forward(middle)
        gate, up = affine(mlp.gate_proj, inner), affine(mlp.up_proj, inner)
        active = nn.functional.silu(gate)
        self._kept = {"q": q, "k": k, "v": v, "weights": weights, "gate": gate, "up": up, "active": active}
        return middle + affine(mlp.down_proj, active * up)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        attention, mlp, kept = self.layer.self_attn, self.layer.mlp, self._kept
        self._kept = {}  # free the memory before the next step's forward pass
        inner = back(gradient, mlp.down_proj)
        gate = torch.ops.aten.silu_backward(inner * kept["up"], kept["gate"])
        inner = back(inner.mul_(kept["active"]), mlp.up_proj, back(gate, mlp.gate_proj))
        gradient = gradient + self.mlp_norm.backward(inner)
        mixed = back(gradient, attention.o_proj).view(len(gradient), -1, self.size)
        mixed, weights = self.queries.spread(mixed, self.groups), kept["weights"]
        scores = torch._softmax_backward_data(mixed @ kept["v"].transpose(1, 2), weights, -1, torch.float32).mul_(
            self.scaling
        )
        q = self.queries.rotate_back(self.queries.collect(scores @ kept["k"], self.groups))
        k = self.every.collect(scores.transpose(1, 2) @ kept["q"], self.groups)
        v = self.every.collect(weights.transpose(1, 2) @ mixed, self.groups)
        if self._fixed is not None:
            k, v = k[self.moving.tokens], v[self.moving.tokens]
        k, v = self.moving.rotate_back(k), v.flatten(1)
        q, k = (t if norm is None else norm.backward(t) for t, norm in ((q, self.q_norm), (k, self.k_norm)))
        normed = back(v, attention.v_proj, back(k.flatten(1), attention.k_proj))
        if self.within is not None:
            normed.index_add_(0, self.within, back(q.flatten(1), attention.q_proj))
            return self.norm.backward(normed).index_add_(0, self.within, gradient)
        return gradient + self.norm.backward(back(q.flatten(1), attention.q_proj, normed))
