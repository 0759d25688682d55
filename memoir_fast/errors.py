"""The library's own errors, and safe display of outside values in messages and terminals.

Bad arguments raise ValueError or TypeError.
"""

from __future__ import annotations

import dis
import reprlib
from types import TracebackType
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


# ---- whose fault an error is ---


def on_purpose(error: BaseException) -> bool:
    """Whether the library itself raised an error, with a message for its caller; False for one that Python, or a package below, found: where a
    ValueError or TypeError is no message about arguments, it is a bug."""
    frames = _frames(error)
    if not frames:
        return False
    frame, at = frames[-1].tb_frame, frames[-1].tb_lasti
    return _of(frames[-1], "memoir_fast") and dis.opname[frame.f_code.co_code[at]] == "RAISE_VARARGS"


def passed_through(error: BaseException, module: str) -> bool:
    """Whether an error came out of another package that one of our modules had called: its innermost frame of ours is the module's."""
    frames = _frames(error)
    ours = [frame for frame in frames if _of(frame, "memoir_fast")]
    return bool(ours) and ours[-1] is not frames[-1] and _of(ours[-1], module)


def _frames(error: BaseException) -> list[TracebackType]:
    """The traceback's frames, the innermost last."""
    found, one = [], error.__traceback__
    while one is not None:
        found.append(one)
        one = one.tb_next
    return found


def _of(frame: TracebackType, module: str) -> bool:
    name = str(frame.tb_frame.f_globals.get("__name__"))
    return name == module or name.startswith(f"{module}.")


# ---- values from outside, short and harmless whatever they are ---

_LONGEST = 100  # characters of a value in a message
_LONGEST_REASON = 300  # of another library's reason


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


def brief(error: Exception) -> str:
    """What an error of another library says, cut to three hundred characters: it may quote a file at any length."""
    text = str(error)
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


def printable(text: str) -> str:
    """A text for a terminal. Line ends stay; other control characters, and those that reverse the writing direction,
    are escaped."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
