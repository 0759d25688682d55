"""What a worker decided for a request, told to the front end that wants to know.

A front end has a file of slots in the server's folder. A request whose decision it wants to know carries the file's name, a slot and a number that is
used once; the worker writes its decision there, in the pass that reads the prompt and so before the first token travels back. Nothing is written for
other requests.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import re
import struct
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .shared import OUTCOMES, folder, mapped

KEY = "_memoir_slot"  # among a request's extra arguments: [file, slot, number]
_NAME = re.compile(r"asked-\w{1,40}")
_ROW = struct.Struct("=qqqqdd")  # number, outcome, edit, nearest, score, threshold
_SLOTS = 1 << 16  # requests of one front end that are being answered at the same time
_NONE = -1


@dataclass(frozen=True)
class Decision:
    """What the memory does for a request.

    Attributes:
        outcome: one of `OUTCOMES`.
        edit: the edit that is read, None for none.
        nearest: the likeliest edit, None where none was looked for or there is none to compare with.
        score: 0..1, how likely the prompt asks for that; threshold: the score from which it is read. None where none was looked for.
    """

    outcome: str
    edit: int | None = None
    nearest: int | None = None
    score: float | None = None
    threshold: float | None = None

    def told(self) -> dict[str, Any]:
        """As JSON objects hold it."""
        rounded = {name: value if value is None else round(value, 6) for name, value in (("score", self.score), ("threshold", self.threshold))}  # fmt: skip
        return {"outcome": self.outcome, "edit": self.edit, "nearest": self.nearest, **rounded}

    def packed(self, number: int) -> bytes:
        """A slot's bytes."""
        edit, nearest = (_NONE if value is None else value for value in (self.edit, self.nearest))
        score, threshold = (math.nan if value is None else value for value in (self.score, self.threshold))
        return _ROW.pack(number, OUTCOMES.index(self.outcome), edit, nearest, score, threshold)

    @classmethod
    def unpacked(cls, data: bytes) -> tuple[int, Decision]:
        """The number of a slot's bytes, and what they say."""
        number, outcome, *rest = _ROW.unpack(data)
        edit, nearest = (None if value == _NONE else value for value in rest[:2])
        score, threshold = (None if math.isnan(value) else value for value in rest[2:])
        return number, cls(OUTCOMES[outcome], edit, nearest, score, threshold)


class Slots:
    """A front end's slots."""

    def __init__(self) -> None:
        file = mapped("asked-", _SLOTS * _ROW.size)
        self._file = "" if file is None else file[0]
        self._rows = None if file is None else file[1]
        self._free = deque(range(_SLOTS))
        self._number = 0
        self._lock = threading.Lock()

    def take(self) -> list[Any] | None:
        """What a request carries under `KEY`; None where all slots are taken, or no server has a folder."""
        with self._lock:
            if self._rows is None or not self._free:
                return None
            self._number += 1
            return [self._file, self._free.popleft(), self._number]

    def decision(self, slot: list[Any]) -> Decision | None:
        """What a worker has said; None while it has not."""
        assert self._rows is not None
        _, place, wanted = slot
        number, decision = Decision.unpacked(self._rows[place * _ROW.size : (place + 1) * _ROW.size])
        return decision if number == wanted else None

    def give_back(self, slot: list[Any]) -> None:
        """The request has been answered; the slot is used again after all others, so that a late worker disturbs nobody."""
        with self._lock:
            self._free.append(slot[1])


class Answers:
    """A worker's side: writes decisions where front ends look for them."""

    def __init__(self) -> None:
        self._files: dict[str, mmap.mmap | None] = {}

    def put(self, extra: Mapping[str, Any] | None, decision: Decision) -> None:
        """Tell the front end of a request with these extra arguments, if it wants to know. A front end on another host has no such folder here: it
        is not told."""
        slot = (extra or {}).get(KEY)
        if not isinstance(slot, (list, tuple)) or len(slot) != 3:
            return
        name, place, number = slot
        if not (isinstance(name, str) and _NAME.fullmatch(name) and type(place) is int and 0 <= place < _SLOTS and type(number) is int):  # fmt: skip
            return
        rows = self._opened(name)
        if rows is not None:
            data, start = decision.packed(number), place * _ROW.size
            rows[start + 8 : start + _ROW.size] = data[8:]
            rows[start : start + 8] = data[:8]  # last: what lies behind the number is whole when that is the wanted one

    def _opened(self, name: str) -> mmap.mmap | None:
        if name not in self._files:
            place = folder()
            self._files[name] = None if place is None else _mapped(place / name)
        return self._files[name]


def _mapped(path: Path) -> mmap.mmap | None:
    with contextlib.suppress(OSError, ValueError), path.open("r+b") as file:
        return mmap.mmap(file.fileno(), _SLOTS * _ROW.size)
    return None
