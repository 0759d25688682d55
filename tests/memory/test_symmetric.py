"""C keeps its symmetry to the bit, and a file's half of it gives back the whole."""

from __future__ import annotations

import pytest
import torch

from memoir_fast.memory.symmetric import add_within, mirror_, packed, unpack_, used_rows
from tests.support.models import bits


def _sum_of(size: int, edits: int, active: int) -> torch.Tensor:
    """A C (size, size) after some edits of `active` features each, one of which is taken back."""
    torch.manual_seed(0)
    C = torch.zeros(size, size)
    for edit in range(edits):
        rows, features = torch.randperm(size)[:active].sort().values.int(), torch.randn(7, active)
        add_within(C, rows, features)
        if edit == 1:
            add_within(C, rows, features, -1)
    return C


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 600])
def test_mirroring_takes_the_upper_triangle(size):
    torch.manual_seed(0)
    matrix = torch.randn(size, size)
    found = mirror_(matrix.clone())
    assert torch.equal(found, found.T) and torch.equal(found.triu(), matrix.triu())


@pytest.mark.parametrize(("size", "edits", "active"), [(40, 3, 9), (600, 2, 290), (600, 12, 300), (300, 1, 300)])
def test_what_is_packed_comes_back_to_the_bit(size, edits, active):
    C = _sum_of(size, edits, active)
    assert torch.equal(bits(C), bits(C.T))
    triangle, columns = packed(C)
    count = len(columns)
    assert triangle.shape == (count * (count + 1) // 2,) and columns.dtype == torch.int32
    assert columns.tolist() == [row for row in range(size) if bool((C[row] != 0).any())]
    assert (count < size) is (edits < 10 and active < size)
    assert torch.equal(bits(unpack_(torch.zeros(size, size), triangle, columns)), bits(C))


def test_a_c_without_edits_takes_no_room():
    triangle, columns = packed(torch.zeros(50, 50))
    assert len(triangle) == len(columns) == len(used_rows(torch.zeros(50, 8))) == 0
    assert not unpack_(torch.zeros(50, 50), triangle, columns).any()
