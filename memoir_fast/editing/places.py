"""A layout's tokens as attention needs them, for `suffix.py`: rotated by their positions and arranged in a grid of
sequences."""

from __future__ import annotations

import torch

from .layout import Layout


class Places:
    """Some tokens of a layout, with their rotary angles and their slots in a (sequences, width) grid.

    Each row of the grid holds one sequence's tokens from the left; the rest of the row is padding.

    Args:
        layout: the edit's tokens.
        tokens: indices into the layout's tokens, ascending.
        angles: cosines and sines (n, size) of all the layout's tokens.
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
        # The rotation is x * cos + swap(x) * sin; swap exchanges the halves and negates the first, done here on the
        # sines.
        self.sin = torch.cat([-self.sin[..., :half], self.sin[..., half:]], -1)

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        """x (tokens, heads, size) rotated by each token's angles."""
        half = x.shape[-1] // 2
        return (x * self.cos).addcmul_(torch.cat([x[..., half:], x[..., :half]], -1), self.sin)

    def rotate_back(self, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient with respect to the input of `rotate`, from its output's; same shape."""
        half = gradient.shape[-1] // 2
        turned = gradient * self.sin
        return torch.cat([turned[..., half:], turned[..., :half]], -1).addcmul_(gradient, self.cos)

    def spread(self, x: torch.Tensor, groups: int) -> torch.Tensor:
        """x (tokens, groups * g, size) to (sequences * groups, g * width, size), padded with zeros."""
        heads, size = x.shape[1:]
        rows, width = self.grid
        if not self.full:
            x = x.new_zeros(rows * width, heads, size).index_copy_(0, self.slots, x)
        x = x.view(rows, width, groups, heads // groups, size).permute(0, 2, 3, 1, 4)
        return x.reshape(rows * groups, heads // groups * width, size)

    def collect(self, x: torch.Tensor, groups: int) -> torch.Tensor:
        """The inverse of `spread`: (tokens, heads, size)."""
        rows, width = self.grid
        size = x.shape[-1]
        x = x.view(rows, groups, -1, width, size).permute(0, 3, 1, 2, 4).reshape(rows * width, -1, size)
        return x if self.full else x[self.slots]
