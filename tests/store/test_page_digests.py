"""A page's digest names its file: what is known of it without reading the page again, and what the bytes under it are."""

from __future__ import annotations

import shutil

import pytest
import torch

from memoir_fast.journal.record import digest
from memoir_fast.store import Store, page_files
from tests.store.test_page_files import four, listed
from tests.support.models import bits
from tests.support.stores import HIDDEN, D, add

__all__ = ["four"]  # the fixture


def digests(store: Store) -> list[str | None]:
    return [store.page_files.digest(store.memory.pages, number) for number in range(5)]


def test_the_digest_of_a_page_is_known_where_a_file_holds_it_or_somebody_named_it(four):
    folder, _ = four
    with Store(folder, writer=True) as store, Store(folder) as reader:
        before = listed(store)
        for one in (store, reader):  # the edit behind the snapshot is of the last page, and there is no fifth
            assert digests(one) == [before[0], before[1], before[2], None, ""]
            assert one.page_files.known(one.memory.pages).keys() == {0, 1, 2}
        page = page_files.digest_in(page_files.packed(store.memory.pages.held[3]))
        reader.page_files.name(reader.memory.pages, 3, page)
        store.compact()
        assert digests(reader) == digests(store) == [*listed(store).values(), ""] and digests(store)[3] == page
        store.delete(3), reader.refresh()
        assert digests(reader) == digests(store) == [before[0], None, before[2], page, ""]
        store.compact(), shutil.copytree(folder, folder.parent / "t")
        add(store, 12), reader.refresh()
        shutil.rmtree(folder), (folder.parent / "t").rename(folder)
        reader.refresh()
        assert digests(reader) == [*listed(store).values(), ""]  # what was put back is known by its files


def test_a_page_that_was_emptied_has_no_digest(four):
    with Store(four[0], writer=True) as store:
        assert store.page_files.digest(store.memory.pages, 1)
        store.memory.pages.at(1).zero_()
        assert store.page_files.digest(store.memory.pages, 1) is None
        store.compact()
        assert 1 not in listed(store) and store.page_files.digest(store.memory.pages, 1) == ""


def test_a_pages_bytes_are_checked_before_they_are_read(four):
    folder, _ = four
    with Store(folder) as store:
        page = store.memory.pages.held[1]
        data = bytearray(page_files.packed(page))
        name = page_files.digest_in(data)
        assert page_files.digests_of([page, torch.zeros(D, HIDDEN)]) == [name, ""] and name == listed(store)[1]
        assert torch.equal(bits(page_files.unpacked(torch.frombuffer(data, dtype=torch.uint8), name, (D, HIDDEN))), bits(page))  # fmt: skip
        with pytest.raises(ValueError, match="is not a page's file"):
            page_files.unpacked(torch.frombuffer(data, dtype=torch.uint8), name, (D, HIDDEN + 1))
        for place in (0, 9, -1):
            wrong = bytearray(data)
            wrong[place] ^= 1
            with pytest.raises(ValueError, match=rf"page {name}: its checksum is another one"):
                page_files.unpacked(torch.frombuffer(wrong, dtype=torch.uint8), name, (D, HIDDEN))
        for short in (b"", data[:5], b"\xff" * 8):  # whose digest is right
            raw = torch.tensor([*short], dtype=torch.uint8)
            with pytest.raises(ValueError, match=r"its header has|not JSON"):
                page_files.unpacked(raw, digest(bytes(short)).hex(), (D, HIDDEN))
