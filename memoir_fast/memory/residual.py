"""The residual memory: the columns written so far, the scale in front of them, and the signatures that address them."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from .. import ops
from .index import SignatureIndex
from .update import Update


class ResidualMemory(nn.Module):
    """`scale * V` is the transposed residual weight `W_m^T` of the method (MEMOIR, section 3), stored row by row.

    Args:
        in_features: D, the projection's input width.
        out_features: d, its output width.
        top_k: k, active features per mask.
        permutation: (D,) int32, the fixed permutation of TopHash; drawn from torch's global generator when None.

    Attributes:
        V: (D, d) float32 buffer; row j holds feature j's weights. Kept in float32 whatever the model's dtype.
        scale: Python float S (float64): SGD's weight decay of every step so far; the effective memory is `scale * V`.
        background: (D,) float32 buffer, the mean prompt feature of unrelated prompts.
        C: (D, D) float32 or None: the sum over past edits of `A^T A`, A their tokens' features on the mask: which directions of the
            rows earlier edits read. Kept with `write="preconditioned"`.
        index: the stored edits' signatures.
    """

    def __init__(self, in_features: int, out_features: int, top_k: int, permutation: torch.Tensor | None = None):
        super().__init__()
        if not 1 <= top_k <= in_features:
            raise ValueError(f"top_k must be in [1, {in_features}] for this projection, got {top_k}")
        self.in_features, self.out_features, self.top_k = in_features, out_features, top_k
        if permutation is None:
            permutation = torch.randperm(in_features)
        if sorted(permutation.tolist()) != list(range(in_features)):
            raise ValueError(f"permutation must hold each of 0..{in_features - 1} once")
        # Not persistent: a wrapped model's state_dict stays the base model's; the memory has its own files.
        self.register_buffer("V", torch.zeros(in_features, out_features), persistent=False)
        self.register_buffer("background", torch.zeros(in_features), persistent=False)
        self.register_buffer("permutation", permutation.to(torch.int32), persistent=False)
        self.register_buffer("C", None, persistent=False)
        self.scale = 1.0
        self.feature = "mean_decentered"  # what masks are made of, see MemoirConfig.feature
        self.index = SignatureIndex(in_features, top_k)

    def _apply(self, fn, recurse=True):
        # model.half() or model.to(torch.bfloat16) must move the memory but not round it.
        names = ("V", "background", "permutation", "C")
        kept = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        super()._apply(fn, recurse)
        for name, tensor in kept.items():
            setattr(self, name, tensor.to(getattr(self, name).device))
        return self

    def __len__(self) -> int:
        """Number of stored edits."""
        return len(self.index)

    def extra_repr(self) -> str:
        return f"D={self.in_features}, d={self.out_features}, k={self.top_k}, edits={len(self)}"

    def track(self) -> None:
        """Begin to keep C."""
        if self.C is None:
            self.C = torch.zeros(self.in_features, self.in_features, device=self.V.device)

    def write(self, update: Update, sign: int = 1) -> None:
        """Add an update to V and C, or take it back with sign -1. Neither the scale nor the index is touched."""
        update = update.to(self.V.device)
        rows = update.rows
        if update.moves is None:
            self.V.index_add_(0, rows.long(), update.block, alpha=sign / update.scale)
        else:
            ops.masked_scatter_(self.V, rows, update.moves, update.G, sign / update.scale)
        if self.C is not None:
            rows = rows.long()
            self.C[rows[:, None], rows] += sign * (update.features.T @ update.features)

    def without(self, updates: list[Update]) -> ResidualMemory:
        """A copy to optimise against, as if these updates were not in it: own V and C, the same index."""
        twin = copy.copy(self)
        twin._buffers = {**self._buffers, "V": self.V.clone(), "C": None if self.C is None else self.C.clone()}
        for update in updates:
            twin.write(update, -1)
        return twin

    def stiffness(self, indices: torch.Tensor) -> torch.Tensor | None:
        """(k, k) float32: C on a mask, or None where it is not kept."""
        if self.C is None:
            return None
        rows = indices.long()
        return self.C[rows[:, None], rows]

    def read(self, x: torch.Tensor, out: torch.Tensor, indices: torch.Tensor, route: torch.Tensor) -> torch.Tensor:
        """`out` plus the memory's output; rows with route -1 keep every bit.

        Args:
            x: (..., D), N rows in all; out: (..., d), the base projection's output for them.
            indices: (R, k) int32 masks; route: (N,) int32, each row's mask or -1.

        Returns:
            `out` itself, changed in place, when no gradient is recorded; otherwise a new tensor.
        """
        flat, base = x.reshape(-1, self.in_features), out.reshape(-1, self.out_features)
        if torch.is_grad_enabled() and (x.requires_grad or out.requires_grad):
            return (base + ops.masked_matmul(flat, self.V, indices, route, self.scale)).reshape(out.shape)
        ops.masked_matmul_(base, flat, self.V, indices, route, self.scale)
        return base.reshape(out.shape)

    def indices_of(self, edit_id: int) -> torch.Tensor:
        """(k,) int32 ascending: the mask of a stored edit, unpacked from its signature."""
        bits = np.unpackbits(self.index.signature(edit_id), bitorder="little", count=self.in_features)
        return torch.from_numpy(np.flatnonzero(bits).astype(np.int32))
