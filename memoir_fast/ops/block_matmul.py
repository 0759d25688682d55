"""The product of the active features with copied blocks of the memory's rows."""

from __future__ import annotations

import torch


def block_matmul(x: torch.Tensor, blocks: torch.Tensor, indices: torch.Tensor, route: torch.Tensor, scale: float):
    """Row t is `scale * x[t, indices[route[t]]] @ blocks[route[t]]`."""
    out = torch.full((x.shape[0], blocks.shape[2]), -0.0, dtype=x.dtype, device=x.device)
    for line, (mask, block) in enumerate(zip(indices, blocks, strict=True)):
        rows = (route == line).nonzero().flatten()
        if len(rows):
            product = (x[rows][:, mask.long()].float() @ block.float()) * scale
            out = out.index_copy(0, rows, product.to(x.dtype))
    return out


def block_matmul_(out: torch.Tensor, x: torch.Tensor, blocks: torch.Tensor, indices, route, scale: float) -> None:
    """`out[t] += ...` in place; rows with route -1 are not written."""
    for line, (mask, block) in enumerate(zip(indices, blocks, strict=True)):
        rows = (route == line).nonzero().flatten()
        if len(rows):
            out[rows] += ((x[rows][:, mask.long()].float() @ block.float()) * scale).to(out.dtype)
