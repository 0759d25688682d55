"""The garbage collector is back as it was after whatever happens inside."""

from __future__ import annotations

import gc
import weakref

import pytest

from memoir_fast.base.collecting import put_off
from memoir_fast.store import Catalog, Store
from tests.support.stores import add, new_store


@pytest.mark.parametrize("on", [True, False])
def test_it_is_put_off_and_comes_back(on):
    (gc.enable if on else gc.disable)()
    try:
        with pytest.raises(KeyError), put_off():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() is on
    finally:
        gc.enable()


def test_a_store_that_was_closed_leaves_its_memory_at_once(tmp_path):
    with new_store(tmp_path / "s") as store:
        add(store, 0)
    with put_off():
        opened = Store(tmp_path / "s")
        assert opened.edits[0]["prompt"] == "p0"
        memory = weakref.ref(opened.memory)
        opened.close()
        del opened
        assert memory() is None


def test_it_is_on_once_a_store_is_open_or_refused(tmp_path):
    new_store(tmp_path / "s").close()
    for opened in (Store, Catalog):
        opened(tmp_path / "s")
        assert gc.isenabled()
    (tmp_path / "s" / "base.safetensors").unlink()
    with pytest.raises(ValueError, match="no such file"):
        Store(tmp_path / "s")
    assert gc.isenabled()
