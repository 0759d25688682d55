"""Tokens of a layout as attention sees them, for `suffix.py`: turned by their positions, and as slots of a grid of sequences."""

from __future__ import annotations

import torch

from .layout import Layout


class Places:
    """Some tokens of the layout as queries, with rotary angles, and as slots of a (sequences, width) grid.

    Sequences are aligned at their first of these tokens; what is left of the grid at the right is padding.
    """

    def __init__(self, layout: Layout, tokens: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]):
        self.tokens = tokens
        rows, positions = layout.sequences[tokens], layout.positions[tokens]
        counts = torch.bincount(rows, minlength=int(layout.sequences[-1]) + 1)
        starts = counts.cumsum(0) - counts
        columns = torch.arange(len(tokens), device=tokens.device) - starts[rows]
        self.grid = (len(counts), int(counts.max()))
        self.slots = rows * self.grid[1] + columns
        self.full = len(tokens) == self.grid[0] * self.grid[1]
        self.positions = torch.zeros(self.grid[0] * self.grid[1], dtype=torch.int64, device=tokens.device)
        self.positions[self.slots] = positions
        self.positions = self.positions.view(self.grid)
        self.cos, self.sin = (angle[tokens][:, None] for angle in angles)
        half = self.sin.shape[-1] // 2
        # x * cos + rotate(x) * sin, where rotate swaps the halves and turns the sign of the first.
        self.sin = torch.cat([-self.sin[..., :half], self.sin[..., half:]], -1)

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        """x (tokens, heads, size) turned by each token's angles."""
        half = x.shape[-1] // 2
        return (x * self.cos).addcmul_(torch.cat([x[..., half:], x[..., :half]], -1), self.sin)

    def rotate_back(self, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient for the input of `rotate`."""
        half = gradient.shape[-1] // 2
        turned = gradient * self.sin
        return torch.cat([turned[..., half:], turned[..., :half]], -1).addcmul_(gradient, self.cos)

    def spread(self, x: torch.Tensor, groups: int) -> torch.Tensor:
        """(tokens, groups * g, size) to (sequences * groups, g * width, size), zeros as padding."""
        heads, size = x.shape[1:]
        rows, width = self.grid
        if not self.full:
            x = x.new_zeros(rows * width, heads, size).index_copy_(0, self.slots, x)
        x = x.view(rows, width, groups, heads // groups, size).permute(0, 2, 3, 1, 4)
        return x.reshape(rows * groups, heads // groups * width, size)

    def collect(self, x: torch.Tensor, groups: int) -> torch.Tensor:
        """The way back from `spread`: (tokens, heads, size)."""
        rows, width = self.grid
        size = x.shape[-1]
        x = x.view(rows, groups, -1, width, size).permute(0, 3, 1, 2, 4).reshape(rows * width, -1, size)
        return x if self.full else x[self.slots]
