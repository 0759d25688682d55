"""The interface of a backend. The modules `reference`, `cpu` and `gpu` implement it, which the type checker verifies.

The arguments are those of the public operations of the same names. They are checked already, except for values in index
tensors.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Backend(Protocol):
    """The operations on one kind of device. Shapes as in `reference.py`."""

    def tophash(self, features: Tensor, background: Tensor, permutation: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """indices (B, k) int32 and signature (B, ceil(D/8)) uint8."""

    def tophash_pooled(
        self, tokens: Tensor, cu_seqlens: Tensor, background: Tensor, permutation: Tensor, k: int
    ) -> tuple[Tensor, Tensor]:
        """`tophash` of the means of token segments."""

    def masked_matmul(self, x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
        """(N, d) of x's dtype; -0.0 in rows with route -1."""

    def masked_matmul_(self, out: Tensor, x: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float) -> None:
        """Adds to `out` (N, d) in place; rows with route -1 are not written."""

    def masked_matmul_backward(
        self, grad: Tensor, V: Tensor, indices: Tensor, route: Tensor, scale: float, dimension: int
    ) -> Tensor:
        """The gradient (N, dimension) with respect to x, from grad (N, d)."""

    def block_matmul(self, x: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float) -> Tensor:
        """As `masked_matmul`, with blocks (R, k, d)."""

    def block_matmul_(
        self, out: Tensor, x: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float
    ) -> None:
        """As `masked_matmul_`, with blocks (R, k, d)."""

    def block_matmul_backward(
        self, grad: Tensor, blocks: Tensor, indices: Tensor, route: Tensor, scale: float, dimension: int
    ) -> Tensor:
        """As `masked_matmul_backward`, with blocks (R, k, d)."""

    def masked_scatter_(self, V: Tensor, idx: Tensor, A: Tensor, G: Tensor, scale: float) -> Tensor:
        """Adds to V's rows in place; returns the squared norm of the update, a float32 scalar."""
