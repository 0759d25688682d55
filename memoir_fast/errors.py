"""The errors of the library's own; bad arguments raise ValueError or TypeError."""

from __future__ import annotations


class EditError(RuntimeError):
    """An edit could not be made; the memory is as it was before."""


class StoreError(RuntimeError):
    """A store cannot do what was asked: another process writes, the disk fails, or the policy refuses."""


class ConflictError(StoreError):
    """A new edit contradicts a stored one, and the policy is to reject it."""


class Damaged(ValueError):
    """Bytes in a file that are not what was written."""


class CutOff(Damaged):
    """The file ends within a record: a write that did not come to its end, or a file that lost its end."""


class Altered(Damaged):
    """A record that was written whole and has changed since: no write that did not come to its end leaves this behind."""
