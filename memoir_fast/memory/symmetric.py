"""C is symmetric to the bit, so a file needs only its upper triangle, and of this only the rows and columns that an edit has read."""

from __future__ import annotations

import torch

_BLOCK = 256  # rows and columns that are mirrored at a time


def add_within(C: torch.Tensor, rows: torch.Tensor, features: torch.Tensor, sign: int = 1) -> None:
    """`C[rows, rows] += sign * A^T A`. C: (D, D) contiguous; rows: (k,), each of them once; features: A (n, k)."""
    where = rows.long()
    places = (where[:, None] * C.shape[1] + where).view(-1)
    # A matrix product may add up (i, j) and (j, i) in different orders.
    product = mirror_(sign * (features.T @ features))
    C.view(-1).scatter_add_(0, places, product.view(-1))  # four times as fast as indexing by rows and columns


def mirror_(matrix: torch.Tensor) -> torch.Tensor:
    """Copy the upper triangle of a square matrix over its lower one; returns the matrix."""
    size = len(matrix)
    for at in range(0, size, _BLOCK):
        end = min(at + _BLOCK, size)
        inside = matrix[at:end, at:end].triu()
        matrix[at:end, at:end] = inside + inside.triu(1).T
        matrix[end:, at:end] = matrix[at:end, end:].T
    return matrix


def used_rows(matrix: torch.Tensor) -> torch.Tensor:
    """(r,) int32 on the CPU, ascending: the rows that hold a number other than 0."""
    return torch.nonzero(matrix.any(1)).view(-1).to("cpu", torch.int32)


def packed(C: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A symmetric matrix (D, D) without what it holds twice and without rows of zeros.

    Returns:
        the upper triangle (c (c + 1) / 2,), row by row, of the rows and columns that hold anything; and which these are, (c,) int32 ascending.
        Both are on the CPU.
    """
    columns = used_rows(C)
    where, count = columns.long(), len(columns)
    triangle, at = torch.empty(count * (count + 1) // 2, dtype=C.dtype), 0
    values = C.detach().cpu()
    for number, row in enumerate(where.tolist()):
        end = at + count - number
        line = values[row]
        torch.index_select(line, 0, where[number:], out=triangle[at:end])
        at = end
    return triangle, columns


def unpack_(C: torch.Tensor, triangle: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Write what `packed` returned into a matrix of zeros (D, D), which may be on another device; returns it."""
    where, count, at = columns.long().to(C.device), len(columns), 0
    values = triangle.to(C.device)
    for number, row in enumerate(columns.tolist()):
        end = at + count - number
        C[row].index_copy_(0, where[number:], values[at:end])
        at = end
    return _mirrored_within(C, where)


def _mirrored_within(C: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """`mirror_` for the rows and columns `where` (c,), which ascend; the others hold zeros and stay untouched."""
    if len(where) == len(C):
        return mirror_(C)
    for at in range(0, len(where), _BLOCK):
        rows = where[at : at + _BLOCK]
        block = C[rows[:, None], rows].triu()
        C[rows[:, None], rows] = block + block.triu(1).T
        rest = where[at + _BLOCK :]
        C[rest[:, None], rows] = C[rows[:, None], rest].T
    return C
