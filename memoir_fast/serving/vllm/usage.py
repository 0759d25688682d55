"""How often each edit is read, counted by the workers in files of the server's folder, and told by whichever front end is asked."""

from __future__ import annotations

import mmap
import os
import time
from collections import OrderedDict

import numpy as np

from ...reading.usage import EDGES, OTHER, USE, add, count, empty, is_near, merged
from .answers import Decision
from .shared import folder, mapped

ENVIRONMENT = "MEMOIR_FAST_METRICS_EDITS"
_MOST = 1000
_HEAD = 8  # bytes: a number that is odd while a line is being written
_TRIES = 1000


def most_edits() -> int:
    """How many edits have lines of their own: `MEMOIR_FAST_METRICS_EDITS`, or 1,000. Raises ValueError where that is no number."""
    given = os.environ.get(ENVIRONMENT, str(_MOST))
    if not given.isascii() or not given.isdigit() or len(given) > 9:
        raise ValueError(f"{ENVIRONMENT} must be a number of edits, got {given[:100]!r}: give one, or leave it out")
    return int(given)


class Usage:
    """One worker's counts. The edit that was read or nearly read longest ago gives its line to a new one; its counts go to `OTHER`."""

    def __init__(self, most: int):
        size = _HEAD + (most + 1) * USE.itemsize
        file = mapped("reads-", size)
        self._memory: mmap.mmap | bytearray = bytearray(size) if file is None else file[1]
        self._version = np.frombuffer(self._memory, np.uint64, 1)
        self.lines = np.frombuffer(self._memory, USE, most + 1, _HEAD)
        self.lines["edit"] = OTHER
        self._places: OrderedDict[int, int] = OrderedDict()  # edit -> its line; the first is for the others

    def note(self, decision: Decision) -> None:
        """Count a decision."""
        read, named = decision.edit is not None, decision.nearest is None
        edit = decision.edit if read else decision.nearest
        if edit is None or not (read or is_near(decision.score or 0.0, decision.threshold or 0.0)):
            return
        self._version += 1
        count(self.lines[self._place(edit)], read, None if named else decision.score, time.time())
        self._version += 1

    def _place(self, edit: int) -> int:
        if edit in self._places:
            self._places.move_to_end(edit)
            return self._places[edit]
        place = len(self._places) + 1
        if place >= len(self.lines):
            if not self._places:
                return 0
            _, place = self._places.popitem(last=False)
            add(self.lines[0], self.lines[place])
        self.lines[place] = empty(edit)
        self._places[edit] = place
        return place


def used() -> np.ndarray:
    """What all workers have counted, as `merged` gives it."""
    place, found = folder(), [np.zeros(0, USE)]
    for path in sorted(place.glob("reads-*")) if place is not None else ():
        for _ in range(_TRIES):
            data = path.read_bytes()
            if len(data) < _HEAD or (len(data) - _HEAD) % USE.itemsize:
                break
            again = path.read_bytes()[:_HEAD]
            if data[:_HEAD] == again and not data[0] & 1:
                lines = np.frombuffer(data, USE, offset=_HEAD)
                found.append(lines[(lines["edit"] != OTHER) | (lines["reads"] + lines["nearly"] > 0)])
                break
    return merged(np.concatenate(found), most_edits())


def families(lines: np.ndarray) -> list[tuple[str, str, str, list[tuple[str, float]]]]:
    """Prometheus's families of these lines: name without suffix, type, help, samples."""
    reads, near, scores = [], [], []
    for line in lines:
        label = f'edit="{"other" if line["edit"] == OTHER else int(line["edit"])}"'
        reads.append((f"memoir_fast_edit_reads_total{{{label}}}", float(line["reads"])))
        near.append((f"memoir_fast_edit_nearly_read_total{{{label}}}", float(line["nearly"])))
        upto = np.cumsum(line["scores"])
        for edge, number in zip((*map(str, EDGES), "+Inf"), upto.tolist(), strict=True):
            scores.append((f'memoir_fast_edit_score_bucket{{{label},le="{edge}"}}', float(number)))
        scores += [(f"memoir_fast_edit_score_sum{{{label}}}", float(line["total"])), (f"memoir_fast_edit_score_count{{{label}}}", float(upto[-1]))]  # fmt: skip
    return [
        ("memoir_fast_edit_reads", "counter", "Requests that read the edit.", reads),
        ("memoir_fast_edit_nearly_read", "counter", "Requests that nearly read the edit and read none.", near),
        ("memoir_fast_edit_score", "histogram", "Scores of the requests that read the edit or nearly did.", scores),
    ]
