"""A memory that loses nothing: log, ledger, undo. See `store.Store`."""

from .files import StoreError
from .store import ConflictError, Store, check_tags, is_store

__all__ = ["ConflictError", "Store", "StoreError", "check_tags", "is_store"]
