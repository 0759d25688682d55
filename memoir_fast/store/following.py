"""How a reader takes over what a writer has changed beside its records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..journal.memory_state import words_among
from . import manifest
from .identity import check_same_memory, check_same_rule
from .manifest import Manifest

if TYPE_CHECKING:
    from .store import Store


def take_up(store: Store) -> None:
    """Take over the settings and prompts that the writer calibrates with. Raises StoreError for another store."""
    kept = Manifest.load(store.folder)
    check_same_memory(store.folder, store.manifest, kept)
    if (kept.base_file, kept.base) != (store.manifest.base_file, store.manifest.base):
        kept, base = manifest.newest(store.folder)
        check_same_rule(store.folder, (store.memory.background, store.words), (base["background"], words_among(base)))
        store.take_base(base)
    store.manifest = kept


def renew(store: Store, fresh: Store) -> None:
    """Rebuild a reader's memory from what its folder holds now; if that fails, it stays as it is.

    Args:
        store: the reader.
        fresh: its folder, opened anew.

    Raises:
        StoreError: the folder holds another store by now.
    """
    check_same_memory(store.folder, store.manifest, fresh.manifest)
    check_same_rule(store.folder, (store.memory.background, store.words), (fresh.memory.background, fresh.words))
    with store.memory.lock:
        store.memory.clear()
        store.state.take(fresh.state)
        made, index = fresh.memory, fresh.memory.index
        store.memory.fill(made.pages.held, made.scale, index.ids, index.signatures(), made.reads, page=made.page)
        store.page_files.note(store.memory.pages, fresh.page_files.known(made.pages))
    store.manifest, store._history = fresh.manifest, fresh._history
    store.calibration, store.words = fresh.calibration, fresh.words
