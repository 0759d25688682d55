"""The library's own errors, and safe display of outside values in messages and terminals.

Bad arguments raise ValueError or TypeError.
"""

from __future__ import annotations

import reprlib
from typing import Any


class EditError(RuntimeError):
    """An edit could not be made; the memory is as it was before."""


class StoreError(RuntimeError):
    """A store cannot do what was asked: another process is writing, the disk failed, or the policy forbids it."""


class ConflictError(StoreError):
    """A new edit contradicts a stored one, and the policy is to reject it."""


class Damaged(ValueError):
    """A file's bytes differ from what was written."""


class CutOff(Damaged):
    """The file ends inside a record: a write was interrupted, or the file was truncated."""


class Altered(Damaged):
    """A record was written in full and has changed since; an interrupted write cannot cause this."""


# ---- outside values, made short and harmless ---

_LONGEST = 100  # characters of a value in a message


class _Short(reprlib.Repr):
    """A repr of bounded cost: a small file can describe a value that would take years to print, so only a few members
    of each level are looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 80, 80
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 4

    def repr_int(self, x: int, level: int) -> str:
        """Integers can be of any length, and Python refuses to print very long ones."""
        return repr(x) if abs(x) < 10**40 else f"a number of {x.bit_length()} bits"


def quoted(value: Any) -> str:
    """`repr` of a value for a message, cut to 100 characters; the cost does not depend on the value."""
    text = _Short().repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def printable(text: str) -> str:
    """A text for a terminal. Line ends stay; other control characters, and those that reverse the writing direction,
    are escaped."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
