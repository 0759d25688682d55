"""What a journal's edits were at an earlier point: after an edit was made, or at a time. Needs the records' headers only."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from ..errors import quoted
from .record import Entry
from .state import State


def past_state(state: State, history: list[Entry], to: int | str, where: object) -> State:
    """What the edits were after edit `to` (an id) was made, or at a time (ISO 8601).

    The state at a time is the one between two records of the log, the cut at which the fewest records lie on the wrong side of it by their
    times: a clock that was put back or forward for a while moves it little.

    Args:
        state: of the journal now; history: all of its records; where: the journal, for messages.

    Returns:
        a state without a memory. Edits that did not exist then are not in it.

    Raises:
        ValueError: there is no such edit, or `to` is no time.
    """
    if isinstance(to, str):
        kept = history[: _cut([_written(entry) for entry in history], time_of(to, "to", "is neither an edit's id nor"))]
    elif to in state.entries:
        kept = [e for e in history if e.seq <= state.entries[to].seq]
    else:
        raise ValueError(f"there is no edit {to} in {where}")
    past = State(None)
    past.entries |= {i: e for i, e in state.entries.items() if e.seq == 0}
    past.statuses |= dict.fromkeys(past.entries, "active")
    past.tags |= {i: [] for i in past.entries}
    past.next_id = max(past.entries, default=-1) + 1 if past.entries else 0
    for entry in kept:
        past.apply(entry, effect=False)
    return past


def changes_to(state: State, past: State) -> list[tuple[int, str]]:
    """(edit, status) of what a rollback to an earlier state changes; edits that did not exist then become deleted."""
    wanted = {edit: past.statuses.get(edit, "deleted") for edit in state.statuses}
    return [(edit, status) for edit, status in wanted.items() if status != state.statuses[edit]]


def check_meant(state: State, past: State, to: int | str, how: str) -> None:
    """Raise ValueError for a rollback that would delete every edit, because its time is before the first one. how: what says that it is
    meant."""
    gone = [] if past.entries else changes_to(state, past)
    if gone:
        first = state.entries[min(state.entries)].header["created"]
        raise ValueError(f"to: {quoted(to)} is before the first edit ({first}), so {len(gone)} edits, all that there are, would be deleted. "
                         f"Nothing was changed; {how} says that this is meant")  # fmt: skip


def point(text: str) -> int | str:
    """A point in time as people write it: an edit's id, or a time. Raises ValueError for neither."""
    if re.fullmatch("-?[0-9]{1,18}", text):
        return int(text)
    time_of(text, "to", "is neither an edit's id nor")
    return text


def time_of(text: str, where: str, what: str = "is not") -> datetime:
    """A time of ISO 8601; one without a zone is UTC. where: the argument, for the ValueError; what: says that it is no time."""
    try:
        moment = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))  # Python 3.10 does not read the Z
    except ValueError:
        raise ValueError(f"{where}: {quoted(text)} {what} a time like 2026-01-31T12:00:00+00:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _written(entry: Entry) -> datetime:
    """When a record was written; an edit that was merged tells that beside the time at which it was made."""
    return time_of(entry.header.get("written", entry.header["created"]), f"{entry.path}: record {entry.seq}")


def _cut(times: list[datetime], moment: datetime) -> int:
    """How many records, in order, were there at a moment: as many as leave the fewest on the wrong side of it, at best the most."""
    best = wrong = sum(time <= moment for time in times)
    place = 0
    for number, time in enumerate(times, 1):
        wrong += -1 if time <= moment else 1
        if wrong <= best:
            best, place = wrong, number
    return place
