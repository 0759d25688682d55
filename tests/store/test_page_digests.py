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


def test_a_pages_digest_is_worked_out_only_where_no_file_holds_the_page(four, monkeypatch):
    folder, _ = four
    packed, made = [], page_files.packed
    monkeypatch.setattr(page_files, "packed", lambda page: packed.append(page) or made(page))
    with Store(folder, writer=True) as store, Store(folder) as reader:

        def digests(one):
            return [one.page_files.digest(one.memory.pages, number) for number in range(5)]

        before = listed(store)
        for one in (store, reader):
            found = digests(one)
            assert found[:3] == [before[0], before[1], before[2]] and found[3] != before[3] and found[4] == ""
            assert digests(one) == found and packed[-1] is one.memory.pages.held[3]
            assert one.page_files.known(one.memory.pages).keys() == {0, 1, 2}
        assert len(packed) == 2  # the edit behind the snapshot is of the last page
        store.compact()
        assert dict(enumerate(found[:4])) == listed(store)
        store.delete(3), reader.refresh()
        assert digests(reader)[1] not in ("", before[1]) and digests(reader)[::2] == found[::2]
        store.compact(), shutil.copytree(folder, folder.parent / "t")
        add(store, 12), reader.refresh()
        shutil.rmtree(folder), (folder.parent / "t").rename(folder)
        packed.clear()
        reader.refresh()
        assert {number: name for number in range(5) if (name := digests(reader)[number])} == listed(store)
    assert not packed  # what was put back is known by its files


def test_a_page_that_was_emptied_has_no_digest(four):
    with Store(four[0], writer=True) as store:
        assert store.page_files.digest(store.memory.pages, 1)
        store.memory.pages.at(1).zero_()
        assert store.page_files.digest(store.memory.pages, 1) == ""
        store.compact()
        assert 1 not in listed(store) and store.page_files.digest(store.memory.pages, 1) == ""


def test_a_pages_bytes_are_checked_before_they_are_read(four):
    folder, _ = four
    with Store(folder) as store:
        page = store.memory.pages.held[1]
        name, data = page_files.name_of(page), bytearray(page_files.packed(page))
        assert page_files.names_of([page, torch.zeros(D, HIDDEN)]) == [name, ""]
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
