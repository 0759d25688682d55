"""A proposed change of stored edits, as it is kept in the queue and carried out by the worker; a proposed edit is a `Fact`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...base.json_text import parse
from ...journal.past import changes_to, check_meant, past_state, point
from ...model import MemoirModel
from ...store import Store
from .facts import Fact
from .refused import Refused

# What can be done with a stored edit: the statuses from which it can, and what that is called afterwards.
VERBS = {"disable": ("active",), "enable": ("disabled",), "restore": ("deleted", "superseded"), "delete": ("active", "disabled", "superseded")}  # fmt: skip
ROLLBACK = "rollback"
BEGINS = '{"change":'  # how the JSON text of a change begins, and that of a fact does not
_BECOMES = {"disable": "disabled", "enable": "active", "restore": "active", "delete": "deleted"}
_STATUSES = ("active", "disabled", "superseded", "deleted")


@dataclass(frozen=True)
class Change:
    """What is to become of stored edits.

    Attributes:
        change: one of `VERBS`, or `ROLLBACK`. edits: [edit, the status that it gets] of each, as whoever proposed it saw.
        to: the point that a rollback goes back to, "" otherwise; empty: that deleting every edit by it is meant.
        confirm: the word of the preview that a rollback was proposed after; reason: why, in the words of whoever proposed it.
    """

    change: str
    edits: list[list[Any]]
    to: str = ""
    empty: bool = False
    confirm: str = ""
    reason: str = ""

    @classmethod
    def of(cls, verb: str, edit: int, reason: str = "") -> Change:
        """One of `VERBS`, done with one edit."""
        return cls(verb, [[edit, _BECOMES[verb]]], reason=reason)

    @property
    def kind(self) -> str:
        """What it is called among the kinds of proposals."""
        return self.change

    @property
    def edit(self) -> int | None:
        """The one edit that it is about; None for a rollback."""
        return None if self.change == ROLLBACK else int(self.edits[0][0])

    @property
    def name(self) -> str:
        """What those who did it are shown to have done."""
        return f"rollback to {self.to}" if self.change == ROLLBACK else self.change

    def checked(self) -> Change:
        """The change itself, if its values are such as this service writes. Raises Refused otherwise."""
        right = isinstance(self.edits, list) and bool(self.edits) and all(_is_pair(one) for one in self.edits)
        right = right and all(isinstance(one, str) for one in (self.change, self.to, self.confirm, self.reason))
        if self.change == ROLLBACK:
            right = right and self.to != "" and isinstance(self.empty, bool)
        else:
            right = right and self.change in VERBS and len(self.edits) == 1
        if not right:
            raise Refused(422, "this is no change of stored edits")
        return self

    def to_json(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def digest(self) -> str:
        """Tells whether two requests say the same. What a rollback changes follows from its point and its word."""
        asked = self if self.change != ROLLBACK else replace(self, edits=[])
        return hashlib.sha256(asked.to_json().encode()).hexdigest()


def wish_from_json(text: str) -> Fact | Change:
    """What the `to_json` of either wrote. Raises ValueError or TypeError for anything else, but for values, which `checked` looks at."""
    values = parse(text, "proposal")
    if not isinstance(values, dict):
        raise TypeError("a proposal must be an object")
    return Change(**values) if "change" in values else Fact(**values)


def check_verb(verb: str, edit: int, status: str) -> None:
    """Raise Refused unless one of `VERBS` can be done with an edit of this status."""
    if status not in VERBS[verb]:
        raise Refused(409, f"edit {edit} is {status}; {verb} needs one that is {' or '.join(VERBS[verb])}")


@dataclass(frozen=True)
class RollBack:
    """What going back to a point would change.

    Attributes:
        to: the point, as people write it; edits: [edit, the status that it gets]; word: names what is changed, and the store's last record.
        deletes_all: it is before the first edit, so that every edit becomes deleted.
    """

    to: str
    edits: list[list[Any]]
    word: str
    deletes_all: bool


def roll_back_to(store: Store, to: str, empty: bool = True) -> RollBack:
    """In the worker: see `RollBack`. empty: that deleting every edit is meant. Raises ValueError where `to` is no point, or it is not meant."""
    where = point(to)
    past = past_state(store.state, store.history(), where, store)
    edits = changes_to(store.state, past)
    if not empty:
        check_meant(store.state, past, where, '"empty": true')
    word = hashlib.sha256(json.dumps([to, store.state.seq, edits]).encode()).hexdigest()[:16]
    return RollBack(to, [list(one) for one in edits], word, bool(edits) and not past.entries)


def check_doable(change: Change, store: Store) -> None:
    """In the worker: raise Refused unless a change can be done now, with no other effect than whoever proposed and whoever approved it saw."""
    if change.change != ROLLBACK:
        for edit, _ in change.edits:
            check_verb(change.change, edit, store.state.statuses.get(edit, "not in the store any more"))
    elif sorted(roll_back_to(store, change.to).edits) != sorted(change.edits):
        raise Refused(409, "the edits have changed since that roll-back was proposed, and it would change others now: propose it again")  # fmt: skip


def carry_out(change: Change, model: MemoirModel) -> None:
    """In the worker: do it. Raises as the model's methods of the same names."""
    if change.change == ROLLBACK:
        model.rollback(point(change.to), change.empty)
    else:
        getattr(model, change.change)(change.edit)


def _is_pair(one: Any) -> bool:
    return isinstance(one, list) and len(one) == 2 and type(one[0]) is int and one[1] in _STATUSES
