"""Stores: memories kept in folders, each with one writer and any number of readers at a time."""

from ..errors import ConflictError, StoreError
from .bundle import export_bundle, import_bundle, merge
from .manifest import is_store
from .store import Store

__all__ = ["ConflictError", "Store", "StoreError", "export_bundle", "import_bundle", "is_store", "merge"]
