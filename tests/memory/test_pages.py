"""Pages: an edit's rows are in the page of its id, and no edit of another page changes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from memoir_fast.memory.pages import Pages
from memoir_fast.memory.residual import ResidualMemory
from memoir_fast.memory.update import Update
from tests.support.stores import HIDDEN, D, K, add, new_journal
from tests.support.wide import Largest


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
    other = Pages(4, 3)
    other.put(torch.arange(16), expected)
    other.at(3).add_(1)
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


@pytest.mark.parametrize("form", ["moves", "block"])
@pytest.mark.parametrize(("without", "given"), [([2], []), ([], [4]), ([0, 2], [4, 5]), ([1], [0])])
def test_what_changes_leave_is_what_writing_them_leaves(form, without, given):
    """Rows of V in every page, and C, of a memory that stays as it is; the edits from the fourth on are not in it. Pages have three edits."""
    journal, apart = new_journal(page_edits=3), []
    for number in range(6):
        add(journal, number)
        apart.append(journal.state.update_of(number))
    if form == "block":
        apart = [replace(update, block=update.delta(), moves=None, G=None) for update in apart]
    memory, written = ResidualMemory(D, HIDDEN, K, page_edits=3), ResidualMemory(D, HIDDEN, K, page_edits=3)
    for one in (memory, written):
        one.track()
        for update in apart[:4]:
            one.write(update)
    before, C = memory.V.clone(), memory.C.clone()
    found = memory.changed([apart[n] for n in without], [apart[n] for n in given], 0.5)
    for number in without:
        written.write(apart[number], -1)
    for number in given:
        written.write(apart[number])
    for page in (0, 1):
        rows = apart[3 * page].rows.long() + page * D
        rows = torch.cat([rows, torch.arange(page * D, page * D + 5)]).unique()
        assert torch.allclose(found.rows_of(rows), written.rows_of(rows), rtol=1e-5, atol=1e-5)
    mask = apart[4].rows
    assert torch.allclose(found.stiffness(mask, 1), written.stiffness(mask, 1), rtol=1e-5, atol=1e-4)
    assert not found.stiffness(mask, 2).any() and found.scale == 0.5 and memory.scale == 1.0
    assert torch.equal(memory.V, before) and torch.equal(memory.C, C)
    if given or without:
        assert not torch.equal(written.V, memory.V)


def test_an_update_of_a_later_page_begins_it():
    journal = new_journal(page_edits=2)
    for number in range(4):
        add(journal, number)
    memory, last = journal.memory, replace(journal.state.update_of(3), page=2)
    later = memory.changed([], [last])
    assert torch.allclose(later.stiffness(last.rows, 2), last.features.T @ last.features, rtol=1e-6)
    assert memory.page == 1 and not memory.stiffness(last.rows, 2).any() and memory.stiffness(last.rows, 1).any()
    rows = last.rows.long() + 2 * memory.in_features
    assert torch.allclose(later.rows_of(rows), last.delta() / last.scale, rtol=1e-5, atol=1e-6) and list(
        memory.pages.held
    ) == [0, 1]


def test_nothing_is_copied_to_optimise_against_a_changed_memory():
    memory = ResidualMemory(8192, 1024, 64)
    memory.track()
    rows = torch.arange(64, dtype=torch.int32) * 100
    update = Update(
        rows,
        np.zeros(1024, np.uint8),
        1.0,
        1.0,
        moves=torch.ones(3, 64),
        G=torch.ones(3, 1024),
        features=torch.ones(3, 64),
    )
    memory.write(update)
    with Largest(torch.nn.Identity()) as largest:
        found = memory.changed([update], [])
        assert not found.rows_of(rows.long()).any() and not found.stiffness(rows).any()
    assert largest.bytes == 64 * 1024 * 4  # the rows of the mask


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


def test_the_norm_is_that_of_the_pages_as_they_are_after_every_change():
    """Norms are kept by version; pages that are changed, put, moved or forgotten are measured anew."""
    torch.manual_seed(0)
    pages = Pages(6, 4)

    def whole() -> float:
        return float(torch.cat([*pages.held.values()]).double().norm())

    changes = (
        lambda: pages.at(0).normal_(),
        lambda: pages.at(3).normal_(),
        lambda: pages.at(0).mul_(2),
        lambda: pages.take(1, torch.randn(6, 4)),
        lambda: pages.put(torch.tensor([19, 2]), torch.randn(2, 4)),
        lambda: pages.keep_to(1),
        lambda: pages.whole.mul_(0.5),
        pages.clear,
    )
    for change in changes:
        change()
        for _ in range(2):
            assert pages.norm() == pytest.approx(whole(), rel=1e-5, abs=1e-12)
    assert pages.norm() == 0
