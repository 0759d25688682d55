"""What several of these files begin with."""

from __future__ import annotations

import pytest

from tests.support.stores import add, contents, new_store


@pytest.fixture
def sound(tmp_path):
    """(folder of a store of four edits, one of them behind the snapshot; what it holds)."""
    with new_store(tmp_path / "s") as store:
        for number in range(3):
            add(store, number)
        store.compact()
        add(store, 3)
        kept = contents(store)
    return tmp_path / "s", kept
