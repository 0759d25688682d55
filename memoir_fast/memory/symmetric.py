"""Symmetric matrices of which a memory and a file hold only the upper triangle: C is one, and at the size of a large model it is most of a memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from .pages import zeros

STRIP = 128  # rows that are held together
_BLOCK = 256  # rows and columns that are mirrored at a time


class Symmetric:
    """A symmetric matrix (D, D) float32, zeros at first. Its upper triangle lies in strips of 128 rows, from the first row's diagonal on; a
    strip's memory is taken where it is first written to.

    The square on the diagonal is whole in each strip, symmetric to the bit.

    Args:
        size: D.
    """

    def __init__(self, size: int):
        # In one piece: the system gives memory that is taken when it is written to for large pieces only.
        self.size = size
        self._hold(zeros(1, sum(min(STRIP, size - at) * (size - at) for at in range(0, size, STRIP))).view(-1))

    def _hold(self, numbers: torch.Tensor) -> None:
        """Take these numbers, strip after strip."""
        self._numbers, self._strips, at = numbers, [], 0
        for first in range(0, self.size, STRIP):
            rows, columns = min(STRIP, self.size - first), self.size - first
            self._strips.append(numbers[at : at + rows * columns].view(rows, columns))
            at += rows * columns

    @classmethod
    def of(cls, matrix: torch.Tensor) -> Symmetric:
        """The upper triangle of a matrix (D, D) and what it says of the lower one, on the matrix's device."""
        made = cls(len(matrix)).to(matrix.device)
        for at, strip in made._each():
            square = matrix[at : at + len(strip), at : at + len(strip)]
            strip.copy_(matrix[at : at + len(strip), at:])
            mirror_(strip[:, : len(strip)].copy_(square))
        return made

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self._numbers.device

    def to(self, device: torch.device) -> Symmetric:
        """Move it to a device and return it."""
        if self.device != device:
            self._hold(self._numbers.to(device))
        return self

    def clone(self) -> Symmetric:
        """A copy of its own."""
        made = Symmetric.__new__(Symmetric)
        made.size = self.size
        made._hold(self._numbers.clone())
        return made

    def clear(self) -> None:
        """Make it zeros, which take no memory."""
        self._hold(Symmetric(self.size).to(self.device)._numbers)

    # ---- parts of it ---------------------------------------------------------------------------------------------

    def within(self, rows: torch.Tensor) -> torch.Tensor:
        """(k, k): a copy of the rows and columns `rows` (k,), which ascend."""
        rows = rows.long()
        found = torch.empty(len(rows), len(rows), device=self.device)
        for strip, first, end, lines, columns in self._parts(rows):
            found[first:end, first:] = strip[lines[:, None], columns]
            found[end:, first:end] = found[first:end, end:].T
        return found

    def put(self, rows: torch.Tensor, block: torch.Tensor) -> None:
        """Set the rows and columns `rows` (k,), which ascend, to a symmetric block (k, k)."""
        for strip, first, end, lines, columns in self._parts(rows.long()):
            strip[lines[:, None], columns] = block[first:end, first:]

    def add(self, rows: torch.Tensor, features: torch.Tensor, sign: int = 1) -> None:
        """Add `sign * A^T A` to the rows and columns `rows` (k,), which ascend. features: A (n, k)."""
        # A matrix product may add up (i, j) and (j, i) in different orders.
        product = mirror_(sign * (features.T @ features))
        for strip, first, end, lines, columns in self._parts(rows.long()):
            places = (lines[:, None] * strip.shape[1] + columns).view(-1)
            # Four times as fast as indexing by rows and columns.
            strip.view(-1).scatter_add_(0, places, product[first:end, first:].reshape(-1))

    def _parts(self, rows: torch.Tensor) -> Iterator[tuple[torch.Tensor, int, int, torch.Tensor, torch.Tensor]]:
        """For each strip that holds some of these rows: the strip, which of the rows it holds (first, end), their lines in it, and the columns
        in it of these and all later rows."""
        starts = torch.arange(0, self.size + STRIP, STRIP, device=rows.device)
        bounds = torch.searchsorted(rows, starts).tolist()
        for number, strip in enumerate(self._strips):
            first, end = bounds[number], bounds[number + 1]
            if first < end:
                places = rows[first:] - number * STRIP
                yield strip, first, end, places[: end - first], places

    def _each(self) -> Iterator[tuple[int, torch.Tensor]]:
        """(the number of its first row, the strip), for each."""
        return zip(range(0, self.size, STRIP), self._strips, strict=True)

    # ---- all of it -----------------------------------------------------------------------------------------------

    def whole(self) -> torch.Tensor:
        """(D, D): a copy, with both triangles."""
        found = torch.empty(self.size, self.size, device=self.device)
        for at, strip in self._each():
            end = at + len(strip)
            found[at:end, at:] = strip
            found[end:, at:end] = strip[:, len(strip) :].T
        return found

    def product(self, Z: torch.Tensor) -> torch.Tensor:
        """(D, v) float64 on the CPU: the matrix times Z (D, v) float64."""
        found = torch.zeros(self.size, Z.shape[1], dtype=torch.float64)
        for at, strip in self._each():
            end, values = at + len(strip), strip.detach().cpu().double()
            found[at:end] += values @ Z[at:]
            found[end:] += values[:, len(strip) :].T @ Z[at:end]
        return found

    def norm(self, other: Symmetric | None = None) -> float:
        """The Frobenius norm of it, or of its difference to another one, which may be on another device."""
        squares = 0.0
        for number, strip in enumerate(self._strips):
            if other is not None:
                strip = strip - other._strips[number].to(strip.device)
            squares += 2 * float(strip.norm()) ** 2 - float(strip[:, : len(strip)].norm()) ** 2
        return max(0.0, squares) ** 0.5

    def diagonal(self) -> torch.Tensor:
        """(D,): a copy."""
        return torch.cat([strip.diagonal() for strip in self._strips])

    # ---- in files ------------------------------------------------------------------------------------------------

    def packed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What a file holds: no rows of zeros.

        Returns:
            the upper triangle (c (c + 1) / 2,), row by row, of the rows and columns that hold anything; and which these are, (c,) int32
            ascending. Both are on the CPU.
        """
        used = torch.zeros(self.size, dtype=torch.bool)
        for at, strip in self._each():
            used[at : at + len(strip)] |= strip.any(1).cpu()
            used[at:] |= strip.any(0).cpu()
        columns = torch.nonzero(used).view(-1)
        count, at = len(columns), 0
        triangle = torch.empty(count * (count + 1) // 2)
        for strip, first, end, lines, places in self._parts(columns):
            values, own = strip[lines.to(strip.device)].cpu(), places
            for number in range(first, end):
                after = at + count - number
                torch.index_select(values[number - first], 0, own[number - first :], out=triangle[at:after])
                at = after
        return triangle, columns.to(torch.int32)

    def unpack(self, triangle: torch.Tensor, columns: torch.Tensor) -> None:
        """Take the values that `packed` returned; it is zeros before."""
        columns, count, at = columns.long(), len(columns), 0
        for strip, first, end, lines, places in self._parts(columns):
            places, line_numbers = places.to(strip.device), lines.tolist()
            for number in range(first, end):
                after = at + count - number
                row = strip[line_numbers[number - first]]
                row.index_copy_(0, places[number - first :], triangle[at:after].to(strip.device))
                at = after
            mirror_(strip[:, : len(strip)])


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
