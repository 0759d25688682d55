"""Stores: memories kept in folders, each with one writer and any number of readers at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConflictError, StoreError

if TYPE_CHECKING:  # what `__getattr__` loads on first use, for type checkers and editors
    from .bundle import export_bundle as export_bundle
    from .bundle import import_bundle as import_bundle
    from .bundle import merge as merge
    from .catalog import Catalog as Catalog
    from .manifest import is_store as is_store
    from .store import Store as Store

_NAMES = {
    "Catalog": "catalog",
    "Store": "store",
    "export_bundle": "bundle",
    "import_bundle": "bundle",
    "is_store": "manifest",
    "merge": "bundle",
}

__all__ = ["ConflictError", "StoreError", *_NAMES]


def __getattr__(name: str) -> object:
    # Loaded on first use: a `Catalog` lists edits without torch, which a `Store` needs.
    if name in _NAMES:
        import importlib

        return getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
