"""Which edits stand in for one another: what gives way when an edit is brought back, and what comes back when one goes.

Two edits are *rivals* if one took the other's place when it was made or brought back, directly or through others in between; or if they ask the same in the same words
and answer otherwise, unless the journal keeps both. Each edit has a rank: the record that last made it active. Then:

    an edit is deleted, if it was deleted;
    else disabled, if it was disabled;
    else superseded, if a rival that is not deleted has a higher rank;
    else active.

So what is in force depends on which edits are deleted and in which order they were made or brought back, never on the order of deletions.
"""

from __future__ import annotations

from collections.abc import Iterable

from .state import State


def folded(text: str) -> str:
    """A text without differences of case and blanks."""
    return " ".join(text.casefold().split())


class Succession:
    """The rivals among a journal's edits as they are now.

    Args:
        state: of the journal; keeps: its policy is "keep", so that edits which only ask the same are no rivals.
    """

    def __init__(self, state: State, keeps: bool):
        self.state, self.keeps = state, keeps

    def rivals(self, edit: int) -> set[int]:
        """The edits that stand in for one, or that it stands in for."""
        state = self.state
        found = _reached(edit, state.predecessors) | _reached(edit, state.successors)
        if not self.keeps:
            found |= self._contradicting(edit)
        return found & state.entries.keys() - {edit}

    def giving_way(self, edit: int) -> list[int]:
        """The active edits that cannot be in force beside this one; ascending."""
        return sorted(i for i in self.rivals(edit) if self.state.statuses[i] == "active")

    def returning(self, gone: Iterable[int]) -> list[int]:
        """The superseded edits that come back once these are deleted; ascending."""
        state, gone = self.state, set(gone)
        waiting = {i for edit in gone for i in self.rivals(edit) if state.statuses[i] == "superseded"} - gone
        return sorted(i for i in waiting if not self._succeeded(i, gone))

    def _succeeded(self, edit: int, gone: set[int]) -> bool:
        """Whether a rival that is not deleted came after an edit."""
        state = self.state
        return any(
            state.statuses[i] != "deleted" and i not in gone and state.rank(i) > state.rank(edit)
            for i in self.rivals(edit)
        )

    def _contradicting(self, edit: int) -> set[int]:
        """The edits that ask the same in the same words, and answer otherwise."""
        entries = self.state.entries
        asked, target = _asked(entries[edit].header), entries[edit].header["target"].strip()
        return {
            i
            for i, entry in entries.items()
            if entry.header["target"].strip() != target and asked & _asked(entry.header)
        }


def _reached(edit: int, nexts: dict[int, list[int]]) -> set[int]:
    found: set[int] = set()
    stack = [edit]
    while stack:
        fresh = set(nexts.get(stack.pop(), ())) - found
        found |= fresh
        stack += fresh
    return found


def _asked(header: dict) -> set[str]:
    return {folded(text) for text in (header["prompt"], *header.get("rephrasings", []))} - {""}
