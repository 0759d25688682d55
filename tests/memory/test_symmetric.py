"""C keeps its symmetry to the bit, though half of it is held, and a file's part of it gives back the whole."""

from __future__ import annotations

import pytest
import torch

from memoir_fast.memory import symmetric
from memoir_fast.memory.symmetric import STRIP, Symmetric, mirror_, used_rows
from tests.support.models import bits

SIZES = [1, 2, STRIP - 1, STRIP, STRIP + 1, 600]


def parts_of(size, edits, active):
    """(rows, features) of some edits of `active` features each."""
    draw = torch.Generator().manual_seed(size)
    for _ in range(edits):
        rows = torch.randperm(size, generator=draw)[:active].sort().values.int()
        yield rows, torch.randn(7, active, generator=draw)


def added(size, edits, active):
    """A matrix after some edits, one of which is taken back, and the same held whole: each product is added to all of it."""
    C, whole = Symmetric(size), torch.zeros(size, size)
    for number, (rows, features) in enumerate(parts_of(size, edits, active)):
        for sign in (1, -1) if number == 1 else (1,):
            C.add(rows, features, sign)
            whole[rows.long()[:, None], rows.long()] += mirror_(sign * (features.T @ features))
    return C, whole


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 600])
def test_mirroring_takes_the_upper_triangle(size):
    torch.manual_seed(0)
    matrix = torch.randn(size, size)
    found = mirror_(matrix.clone())
    assert torch.equal(found, found.T) and torch.equal(found.triu(), matrix.triu())


@pytest.mark.parametrize("size", SIZES)
def test_half_of_it_is_all_of_it_to_the_bit(size):
    C, whole = added(size, 4, max(1, size // 2))
    assert torch.equal(bits(C.whole()), bits(whole)) and torch.equal(bits(whole), bits(whole.T))
    for rows, _ in parts_of(size, 3, max(1, size // 3)):
        assert torch.equal(bits(C.within(rows)), bits(whole[rows.long()[:, None], rows.long()]))
    assert torch.equal(bits(Symmetric.of(whole).whole()), bits(whole))
    lower = torch.randn(size, size).tril(-1)
    assert torch.equal(bits(Symmetric.of(whole.triu() + lower).whole()), bits(whole))  # the upper triangle counts


@pytest.mark.parametrize("size", SIZES)
def test_a_block_is_put_in_its_place(size):
    C, whole = added(size, 3, max(1, size // 2))
    ((rows, features),) = parts_of(size, 1, max(1, size // 4))
    block, places = mirror_(features.T @ features), rows.long()
    C.put(rows, block)
    whole[places[:, None], places] = block
    assert torch.equal(bits(C.whole()), bits(whole)) and torch.equal(bits(C.within(rows)), bits(block))


@pytest.mark.parametrize("size", SIZES)
def test_products_norms_and_the_diagonal_are_those_of_the_whole(size):
    C, whole = added(size, 3, max(1, size // 2))
    other, whole_other = added(size, 1, max(1, size // 3))
    Z = torch.randn(size, 4, dtype=torch.float64)
    assert torch.allclose(C.product(Z), whole.double() @ Z, rtol=1e-12, atol=1e-9)
    assert torch.equal(bits(C.diagonal()), bits(whole.diagonal()))
    assert C.norm() == pytest.approx(float(whole.norm()), rel=1e-5)
    assert C.norm(other) == pytest.approx(float((whole - whole_other).norm()), rel=1e-5)
    assert C.norm(C.clone()) == 0.0


def test_a_copy_is_its_own_and_a_cleared_one_is_empty():
    C, whole = added(300, 3, 100)
    copy = C.clone()
    C.clear()
    assert not C.whole().any() and torch.equal(copy.whole(), whole) and C.device == copy.device
    copy.add(torch.tensor([3]), torch.ones(1, 1))
    assert not C.whole().any()


@pytest.mark.parametrize(("size", "edits", "active"), [(40, 3, 9), (600, 2, 290), (600, 12, 300), (300, 1, 300)])
def test_what_is_packed_comes_back_to_the_bit(size, edits, active):
    C, whole = added(size, edits, active)
    triangle, columns = C.packed()
    count = len(columns)
    assert triangle.shape == (count * (count + 1) // 2,) and columns.dtype == torch.int32
    assert columns.tolist() == [row for row in range(size) if bool((whole[row] != 0).any())]
    assert (count < size) is (edits < 10 and active < size)
    places = columns.long()
    upper = torch.ones(count, count, dtype=torch.bool).triu()
    assert torch.equal(triangle, whole[places[:, None], places][upper])  # as files of before hold it
    again = Symmetric(size)
    again.unpack(triangle, columns)
    assert torch.equal(bits(again.whole()), bits(whole))


def test_a_c_without_edits_takes_no_room():
    triangle, columns = Symmetric(50).packed()
    assert len(triangle) == len(columns) == len(used_rows(torch.zeros(50, 8))) == 0
    made = Symmetric(50)
    made.unpack(triangle, columns)
    assert not made.whole().any()


def test_little_more_than_half_of_it_is_held():
    size = 14_336
    held = sum(strip.numel() for strip in Symmetric(size)._strips)
    assert held == size * (size + symmetric.STRIP) // 2 < 0.505 * size**2
