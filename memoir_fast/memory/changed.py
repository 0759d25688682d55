"""A memory as it will be: an edit is optimised against what some updates leave of it, and nothing is copied or written for that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from .. import ops
from .update import Update

if TYPE_CHECKING:
    from .residual import ResidualMemory


class Changed:
    """What an edit reads of a memory from which some updates are taken out and to which others are added.

    Args:
        memory: it stays as it is.
        without: updates that are taken out. given: updates that are added.
        scale: the memory's scale then; None for the present one.

    Attributes:
        in_features: D. scale: S. tracks: whether C is kept.
    """

    def __init__(self, memory: ResidualMemory, without: list[Update], given: list[Update], scale: float | None = None):
        self._memory = memory
        self._updates = [*((update, -1) for update in without), *((update, 1) for update in given)]
        self.in_features, self.tracks = memory.in_features, memory.tracks
        self.scale = memory.scale if scale is None else scale

    def rows_of(self, rows: torch.Tensor) -> torch.Tensor:
        """(n, d) float32: rows (n,) of V, which ascend; see `Pages`."""
        found = self._memory.rows_of(rows)
        for update, sign, here, places in self._among(rows, self.in_features):
            if update.moves is not None and update.G is not None:
                moves = update.moves[:, here].contiguous()
                ops.masked_scatter_(found, places.int(), moves, update.G, sign / update.scale)
            else:
                found.index_add_(0, places, update.delta()[here], alpha=sign / update.scale)
        return found

    def stiffness(self, indices: torch.Tensor, page: int = 0) -> torch.Tensor | None:
        """As `ResidualMemory.stiffness`; an update of a later page begins that one, with a C of zeros."""
        if not self.tracks:
            return None
        newest = max([self._memory.page, *(update.page for update, _ in self._updates)])
        assert page >= newest
        found = self._memory.stiffness(indices, page)
        assert found is not None
        for update, sign, here, places in self._among(indices.long(), 0):
            if update.page == page and update.features is not None:
                features = update.features[:, here]
                found[places[:, None], places] += sign * (features.T @ features)
        return found

    def _among(self, rows: torch.Tensor, size: int) -> Iterator[tuple[Update, int, torch.Tensor, torch.Tensor]]:
        """The updates that touch some of these rows, on their device, each with its sign, which of its own rows those are, and where they stand among
        `rows`. size: how many rows a page has; 0 if the rows are a page's own numbers."""
        for kept, sign in self._updates:
            update = kept.to(rows.device)
            own = update.rows.long() + update.page * size
            places = torch.searchsorted(rows, own).clamp_(max=len(rows) - 1)
            here = torch.nonzero(rows[places] == own).view(-1)
            if len(here):
                yield update, sign, here, places[here]
