"""What is different between two points in a store's history, and between two stores."""

from __future__ import annotations

from typing import Any

from ..journal.edit_record import EditRecord
from ..journal.record import origin_of
from ..journal.state import State
from .catalog import Catalog


def between_states(before: State, after: State) -> list[dict[str, Any]]:
    """The edits of one journal of which status or tags differ at two points.

    Returns:
        by id, {"edit", "before": its status then, None where it did not exist yet, "after", "tags_before", "tags_after", "prompt", "target"}.
    """
    found = []
    for edit in sorted({*before.entries, *after.entries}):
        row = _row(edit, edit, before, after)
        if _differs(row):
            found.append({"edit": edit, **row})
    return found


def between_stores(one: Catalog, other: Catalog) -> list[dict[str, Any]]:
    """The edits that only one of two stores has, or of which status or tags differ. An edit is the same in both where one store is a copy of
    the other, or came from it by a bundle or a merge.

    Returns:
        as `between_states`, with "edit" the id in the first store and "other" that in the second, None where there is none. Edits of the
        first store come first.
    """
    theirs = {origin_of(entry.header): edit for edit, entry in other.state.entries.items()}
    found, met = [], set()
    for edit, entry in one.state.entries.items():
        same = theirs.get(origin_of(entry.header))
        met.add(same)
        row = _row(edit, same, one.state, other.state)
        if _differs(row):
            found.append({"edit": edit, "other": same, **row})
    alone = [edit for edit in other.state.entries if edit not in met]
    return found + [{"edit": None, "other": edit, **_row(None, edit, one.state, other.state)} for edit in alone]


def _row(one: int | None, other: int | None, before: State, after: State) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, edit, state in (("before", one, before), ("after", other, after)):
        there = edit is not None and edit in state.entries
        told[name] = state.statuses[edit] if there and edit is not None else None
        told[f"tags_{name}"] = state.tags[edit] if there and edit is not None else []
    edit, state = (one, before) if one is not None and one in before.entries else (other, after)
    assert edit is not None
    record = EditRecord.of(state.entries[edit].header)
    return {**told, "prompt": record.prompt, "target": record.target}


def _differs(row: dict[str, Any]) -> bool:
    return row["before"] != row["after"] or row["tags_before"] != row["tags_after"]
