"""The update rule of one edit: plain SGD on the memory's k active rows, without touching the memory (method of MEMOIR).

Both forms below hold the same iterates. With A (n, k) the active features of the n training tokens, the gradient of the
active rows is `A^T g`, so every iterate is `s * V0 + A^T G` with G (n, d): `TokenWrite` keeps G and the Gram matrix
`K = A A^T`; `BlockWrite` keeps the (k, d) block itself, which is cheaper once n exceeds about 2k.
"""

from __future__ import annotations

import math

import torch

from . import ops
from .config import MemoirConfig
from .memory import ResidualMemory


class _Write:
    """State common to both forms: the tokens' features, the memory's contribution before the edit, the decay s.

    Args:
        features: (n, k) float32, the active features of the training tokens.
        before: (n, d) float32, the memory's output for them before the edit.
        config: learning rate, weight decay and clip norm.
    """

    def __init__(self, features: torch.Tensor, before: torch.Tensor, config: MemoirConfig):
        self.features, self.before = features, before
        self.decay = 1.0
        self._lr, self._clip = config.edit_lr, config.clip_norm
        self._keep = 1.0 - config.edit_lr * config.weight_decay

    def contribution(self) -> torch.Tensor:
        """(n, d) float32: what the memory adds to the projection's output now."""
        return self._added + self.before * self.decay

    def _rate(self, squared_norm: torch.Tensor) -> float:
        """The step length: the learning rate, less when the gradient's Frobenius norm exceeds the clip norm."""
        norm = math.sqrt(max(0.0, float(squared_norm)))
        return self._lr * min(1.0, self._clip / norm) if norm > 0 else self._lr


class TokenWrite(_Write):
    """Token space: G (n, d) and the Gram matrix; a step costs n * n * d."""

    def __init__(self, features, before, config):
        super().__init__(features, before, config)
        self.gram = features @ features.T
        self.G = torch.zeros_like(before)
        self._added = torch.zeros_like(before)  # K G, kept up to date: K g is needed for the norm anyway

    def step(self, gradient: torch.Tensor) -> None:
        """One SGD step for `gradient` (n, d) float32 of the loss with respect to the projection's output."""
        moved = self.gram @ gradient
        rate = self._rate((gradient * moved).sum())
        self.G.mul_(self._keep).sub_(gradient, alpha=rate)
        self._added.mul_(self._keep).sub_(moved, alpha=rate)
        self.decay *= self._keep

    def commit(self, memory: ResidualMemory, indices: torch.Tensor) -> None:
        """Write the edit into the memory's rows `indices` (k,) int32."""
        memory.scale *= self.decay
        ops.masked_scatter_(memory.V, indices, self.features, self.G, 1.0 / memory.scale)


class BlockWrite(_Write):
    """The (k, d) block itself; a step costs 2 * n * k * d."""

    def __init__(self, features, before, config):
        super().__init__(features, before, config)
        self.block = before.new_zeros(features.shape[1], before.shape[1])

    @property
    def _added(self) -> torch.Tensor:
        return self.features @ self.block

    def step(self, gradient: torch.Tensor) -> None:
        """One SGD step for `gradient` (n, d) float32 of the loss with respect to the projection's output."""
        update = self.features.T @ gradient
        rate = self._rate(update.square().sum())
        self.block.mul_(self._keep).sub_(update, alpha=rate)
        self.decay *= self._keep

    def commit(self, memory: ResidualMemory, indices: torch.Tensor) -> None:
        """Write the edit into the memory's rows `indices` (k,) int32."""
        memory.scale *= self.decay
        memory.V.index_add_(0, indices.long(), self.block, alpha=1.0 / memory.scale)


def make_write(features: torch.Tensor, before: torch.Tensor, config: MemoirConfig) -> TokenWrite | BlockWrite:
    """The cheaper form for this edit: token space while n < 2k."""
    tokens, active = features.shape
    return (TokenWrite if tokens < 2 * active else BlockWrite)(features, before, config)
