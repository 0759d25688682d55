"""The errors of the library's own, and how messages and terminals show what came from outside; bad arguments raise ValueError or TypeError."""

from __future__ import annotations

import reprlib
from typing import Any


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


# ---- values from outside, short and harmless whatever they are ---

_LONGEST = 100  # characters of a value in a message
_LONGEST_REASON = 300  # of another library's reason


class _Short(reprlib.Repr):
    """`reprlib` looks at a few members of each level only: a small file can describe a value that takes years to write out."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 80, 80
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 4

    def repr_int(self, x: int, level: int) -> str:
        """Whole numbers have no end, and Python refuses to write the longest."""
        return repr(x) if abs(x) < 10**40 else f"a number of {x.bit_length()} bits"


def quoted(value: Any) -> str:
    """`repr` of a value for a message, cut to a hundred characters; its cost does not depend on what the value holds."""
    text = _Short().repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def brief(error: Exception) -> str:
    """What an error of another library says, cut to three hundred characters: it may quote a file at any length."""
    text = str(error)
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


def printable(text: str) -> str:
    """A text for a terminal: line ends stay, whatever else could steer the terminal or turn the direction of writing is escaped."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
