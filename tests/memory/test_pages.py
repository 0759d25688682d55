"""Pages: an edit's rows are in the page of its id, and no edit of another page changes them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from memoir_fast.memory.pages import Pages
from memoir_fast.memory.residual import ResidualMemory
from tests.support.stores import HIDDEN, D, K, add, new_journal


def test_rows_are_read_and_set_across_pages():
    pages = Pages(4, 3)
    assert pages.whole is pages.held[0] and pages.whole.shape == (4, 3)
    rows, values = torch.tensor([1, 13, 2]), torch.arange(9.0).view(3, 3)
    assert not pages.of_rows(rows).any() and list(pages.held) == [0]  # reading makes no page
    pages.put(rows, values)
    assert list(pages.held) == [0, 3] and torch.equal(pages.of_rows(rows), values)
    expected = torch.zeros(16, 3)
    expected[rows] = values
    assert torch.equal(pages.whole, expected) and pages.norm() == pytest.approx(float(expected.norm()))
    other = pages.copied({3})
    other.at(3).add_(1)
    assert torch.equal(pages.whole, expected) and other.held[0] is pages.held[0]
    assert pages.norm(other) == pytest.approx(12**0.5)
    assert other.norm(Pages(4, 3)) == pytest.approx(float(other.whole.norm()))
    pages.keep_to(2)
    assert list(pages.held) == [0]


def test_a_page_that_no_file_could_name_is_refused():
    with pytest.raises(
        ValueError, match=r"page 600000000 of the memory: a memory ends at page 536870910; make another memory"
    ):
        Pages(4, 3).at(600_000_000)


def test_pages_hold_what_memories_of_their_own_would():
    """Page p is, to the bit, the memory of a journal that got the edits of that page alone; C is the newest page's."""
    journal = new_journal(page_edits=3)
    for number in range(8):
        add(journal, number)
    journal.delete(1)
    journal.disable(4)
    journal.delete(6)
    for page, (numbers, gone) in enumerate((((0, 1, 2), [1]), ((3, 4, 5), []), ((6, 7), [0]))):
        alone = new_journal()
        for number in numbers:
            add(alone, number)
        for edit in gone:
            alone.delete(edit)
        assert torch.equal(journal.memory.pages.held[page], alone.memory.V)
    assert journal.memory.page == 2 and torch.equal(journal.memory.C, alone.memory.C)
    assert journal.memory.V.shape == (3 * D, HIDDEN)
    before = journal.memory.C.clone()
    journal.delete(0)  # of an earlier page, whose C is no longer kept
    journal.enable(4)
    assert torch.equal(journal.memory.C, before)


def test_readers_get_the_rows_of_the_edits_page():
    journal = new_journal(page_edits=2)
    for number in (5, 5, 5):  # the same mask each time
        add(journal, number)
    memory = journal.memory
    (mask, first), (_, last) = memory.block_of(0), memory.block_of(2)
    assert torch.equal(first, memory.pages.held[0][mask.long()]) and torch.equal(
        last, memory.pages.held[1][mask.long()]
    )
    assert torch.allclose(first, 2 * last)  # two edits there, one here


def test_the_columns_uses_are_counted_by_page():
    journal = new_journal(page_edits=2)
    for number in range(5):
        add(journal, number)
    masks = torch.zeros(5, D, dtype=torch.int64)
    for edit in range(5):
        masks[edit, journal.memory.indices_of(edit).long()] = 1
    assert [journal.memory.uses(page).tolist() for page in range(4)] == [
        part.sum(0).tolist() for part in (masks[:2], masks[2:4], masks[4:], masks[:0])
    ]
    journal.delete(2)
    assert journal.memory.uses(1).tolist() == masks[3].tolist()


def test_a_memory_without_pages_counts_all_edits_uses():
    journal = new_journal()
    for number in range(3):
        add(journal, number)
    assert journal.memory.uses(0).sum() == 3 * K and journal.memory.page_of(10**9) == 0


def test_a_copy_to_optimise_against_leaves_the_memory_as_it_is():
    journal = new_journal(page_edits=2)
    for number in range(4):
        add(journal, number)
    memory, state = journal.memory, journal.state
    before, C = memory.V.clone(), memory.C.clone()
    twin = memory.changed([state.update_of(0)], [state.update_of(3)])
    assert torch.equal(memory.V, before) and torch.equal(memory.C, C)
    assert not torch.equal(twin.pages.held[0], memory.pages.held[0]) and twin.page == 1
    assert torch.allclose(twin.pages.held[0], memory.pages.held[0] - dense(state.update_of(0)), atol=1e-6)
    later = memory.changed([], [replace(state.update_of(3), page=2)])
    assert later.page == 2 and memory.page == 1 and torch.equal(memory.C, C)
    mask = state.update_of(3).rows
    assert torch.equal(later.stiffness(mask, 2), state.update_of(3).features.T @ state.update_of(3).features)
    assert not memory.stiffness(mask, 2).any() and memory.stiffness(mask, 1).any()


def test_clearing_begins_again_with_the_first_page():
    journal = new_journal(page_edits=1)
    for number in range(3):
        add(journal, number)
    journal.memory.clear()
    assert list(journal.memory.pages.held) == [0] and journal.memory.page == 0
    assert not journal.memory.V.any() and not journal.memory.C.any()


def test_the_update_rule_without_C_has_pages_too():
    memory = ResidualMemory(D, HIDDEN, K, page_edits=1)
    journal = new_journal(page_edits=1)
    for number in range(2):
        add(journal, number)
        memory.write(journal.state.update_of(number))
    assert memory.C is None and memory.page == 1 and torch.equal(memory.V, journal.memory.V)


def dense(update) -> torch.Tensor:
    """(D, d): what an update adds to its page."""
    return torch.zeros(D, HIDDEN).index_add_(0, update.rows.long(), update.delta())
