"""A memory that loses nothing: log, ledger, undo. See `store.Store`."""

from .bundle import export_bundle, import_bundle, merge
from .files import StoreError
from .store import ConflictError, Store, check_tags, is_store

__all__ = ["ConflictError", "Store", "StoreError", "check_tags", "export_bundle", "import_bundle", "is_store", "merge"]
