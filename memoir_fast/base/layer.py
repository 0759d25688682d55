"""The edited projection: the frozen base projection with the residual memory beside it."""

from __future__ import annotations

import torch
from torch import nn

from ..memory.residual import ResidualMemory


class MemoirLinear(nn.Module):
    """`base_layer(x)`, plus the memory's output for the rows whose route says so.

    Outside a routed forward pass (no tap in this thread) it is the base projection, bit for bit.

    Args:
        base_layer: the projection in place before, any module that maps (..., D) to (..., d).
        memory: the residual memory.
        owner: what returns the `MemoirModel` that the layer belongs to (None once it is gone).
        thread: the router's per-thread state, whose `tap(base_layer, x)` computes the output during a forward pass.
    """

    def __init__(self, base_layer: nn.Module, memory: ResidualMemory, thread, owner=lambda: None):
        super().__init__()
        self.base_layer = base_layer
        self.memory = memory
        self._thread = thread
        self.owner = owner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (B, T, D), or (B*T, D) in models that flatten (OPT); returns the same shape with d for D."""
        tap = self._thread.tap
        return self.base_layer(x) if tap is None else tap(self.base_layer, x)

    def __getattr__(self, name):
        # Models look at their projections (`weight.dtype`, `in_features`): what is not ours is the base's.
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_layer"), name)
