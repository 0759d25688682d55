"""Which edits replace one another: what is superseded when an edit comes back, and what comes back when one is deleted.

Two edits are *rivals* if one replaced the other, directly or through others, when it was made or brought back. They are
also rivals if they ask the same in the same words and have different targets, unless the journal keeps both. Each edit
has a rank: the record that last made it active. An edit is then

    deleted, if it was deleted;
    else disabled, if it was disabled;
    else superseded, if a rival that is not deleted has a higher rank;
    else active.

So an edit's status depends on which edits are deleted and on the order in which they were made or brought back, never
on the order of deletions.
"""

from __future__ import annotations

from collections.abc import Iterable

from .lists import asked
from .state import State


class Succession:
    """The rivals among a journal's edits at present.

    Args:
        state: the journal's.
        keeps: its conflict policy is "keep", so edits that merely ask the same are not rivals.
    """

    def __init__(self, state: State, keeps: bool):
        self.state, self.keeps = state, keeps

    def rivals(self, edit: int) -> set[int]:
        """The rivals of an edit; see the module's text."""
        state = self.state
        found = _reached(edit, state.predecessors) | _reached(edit, state.successors)
        if not self.keeps:
            found |= self._contradicting(edit)
        return {i for i in found if i != edit and i in state.entries}

    def giving_way(self, edit: int) -> list[int]:
        """The active edits that cannot be active beside this one, ascending."""
        return sorted(i for i in self.rivals(edit) if self.state.statuses[i] == "active")

    def returning(self, gone: Iterable[int]) -> list[int]:
        """The superseded edits that come back once these are deleted, ascending."""
        state, gone = self.state, set(gone)
        waiting = {i for edit in gone for i in self.rivals(edit) if state.statuses[i] == "superseded"} - gone
        return sorted(i for i in waiting if not self._succeeded(i, gone))

    def _succeeded(self, edit: int, gone: set[int]) -> bool:
        """Whether an edit has a rival of higher rank that is neither deleted nor about to be."""
        state = self.state
        return any(
            state.statuses[i] != "deleted" and i not in gone and state.rank(i) > state.rank(edit)
            for i in self.rivals(edit)
        )

    def _contradicting(self, edit: int) -> set[int]:
        """The edits that ask the same in the same words and have another target."""
        entries = self.state.entries
        alike = {i for text in asked(entries[edit].header) for i in self.state.asking(text)}
        target = entries[edit].header["target"].strip()
        return {i for i in alike if entries[i].header["target"].strip() != target}


def _reached(edit: int, nexts: dict[int, list[int]]) -> set[int]:
    found: set[int] = set()
    stack = [edit]
    while stack:
        fresh = set(nexts.get(stack.pop(), ())) - found
        found |= fresh
        stack += fresh
    return found
