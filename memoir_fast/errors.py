"""The errors of the library's own, and how messages and terminals show what came from outside; bad arguments raise ValueError or TypeError."""

from __future__ import annotations

import dis
import reprlib
from types import TracebackType
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


def printable(text: str) -> str:
    """A text for a terminal: line ends stay, whatever else could steer the terminal or turn the direction of writing is escaped."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
