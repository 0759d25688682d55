"""A journal: what happened to each edit of a memory, kept so that it can be undone. On disk it is a `Store`, otherwise volatile."""

from __future__ import annotations

import functools
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from ..config import MemoirConfig
from ..errors import ConflictError, EditError, quoted
from ..memory.selection import check_tags
from .past import changes_to, past_state
from .record import Entry, dtype_of, edit_body
from .state import State
from .succession import Succession, folded

if TYPE_CHECKING:
    import torch

    from ..memory.residual import ResidualMemory
    from ..memory.update import Update

CONFLICTS = ("supersede", "keep", "reject")
_Verb = TypeVar("_Verb", bound=Callable)


def exclusive(verb: _Verb) -> _Verb:
    """Decorates a journal's method that changes the memory: one at a time, under the journal's `writing`."""

    @functools.wraps(verb)
    def alone(self: Journal, *args: Any, **kwargs: Any) -> Any:
        with self.writing:
            return verb(self, *args, **kwargs)

    return alone  # type: ignore[return-value]


class Journal(ABC):
    """The common part: what may happen to an edit, and what follows from it.

    Every change is one record: kept first, then applied to the memory as a whole, so that a reader sees all of it or nothing.

    Attributes:
        memory: the residual memory; state: what the records add up to.
        conflict: what becomes of a stored edit that asks the same with another target: "supersede" it, "keep" both, or "reject" the new
            one. Whether two prompts ask the same is told by their words, see `EditWriter`.
        record_dtype: of the records' tensors, a name in `DTYPES`; V is written from the rounded values.
        writing: held by whoever changes the memory or its settings; reentrant. Readers never take it.
    """

    memory: ResidualMemory
    state: State
    conflict: str = "keep"
    record_dtype: str = "float32"

    def __init__(self) -> None:
        self.writing = threading.RLock()

    # ---- how records are kept: the subclasses' part --------------------------------------------------------------

    @abstractmethod
    def check_writable(self) -> None:
        """Raise StoreError unless records can be written."""

    @abstractmethod
    def history(self, after: int = 0) -> list[Entry]:
        """The records past number `after`."""

    @abstractmethod
    def _commit(self, records: list[tuple[dict, bytes]]) -> None:
        """Keep records, then apply them; all of them or none."""

    @abstractmethod
    def configure(self, config: MemoirConfig, tensors: dict[str, torch.Tensor] | None = None) -> None:
        """Keep changed settings (those that did not shape the memory), where settings are kept; and tensors that thresholds and matching are
        made from: "calibration", and those of `MemoryState.words` with `WORDS` in front of their names."""

    def refresh(self) -> int:
        """Take in what another process has added since; returns how many records."""
        return 0

    @property
    def settings(self) -> tuple[MemoirConfig, torch.Tensor, dict[str, torch.Tensor] | None] | None:
        """What `configure` kept last, `calibration` and `words` as in a `MemoryState`; None where no other process can read the journal."""
        return None

    @abstractmethod
    def flush(self) -> None:
        """Wait until every edit so far is kept for good."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the journal holds; it cannot be written to afterwards."""

    # ---- what there is -------------------------------------------------------------------------------------------

    @property
    def edits(self) -> dict[int, dict[str, Any]]:
        """The active edits' rows (see `EditRecord`), by id."""
        with self.memory.lock:
            return dict(self.state.edits)

    @property
    def next_id(self) -> int:
        """The number of the next edit."""
        return self.state.next_id

    def tags_of(self, edit: int) -> list[str]:
        """An edit's tags; the caller holds the memory's lock."""
        return self.state.tags.get(edit, [])

    def same_text(self, prompt: str) -> list[int]:
        """The active edits of which the prompt or a rephrasing is this text, up to case and blanks."""
        wanted = folded(prompt)
        with self.memory.lock:
            rows = self.state.edits.items()
            return [edit for edit, row in rows if wanted in map(folded, (row["prompt"], *row["rephrasings"]))]

    def named(self, key: str) -> int | None:
        """The active edit with the user's key, or None."""
        with self.memory.lock:
            return next((edit for edit, row in self.state.edits.items() if key and row["key"] == key), None)

    def conflicts(self, same: Iterable[int], target: str) -> list[int]:
        """Those of the active edits `same`, which ask what a new edit asks, that it contradicts by its target; ascending.

        Raises:
            ConflictError: there are some, and the policy is "reject".
        """
        if self.conflict == "keep":
            return []
        known = self.state.edits
        found = sorted({i for i in same if known[i]["target"].strip() != target.strip()})
        if found and self.conflict == "reject":
            raise self._contradiction("this", found[0])
        return found

    # ---- edits ---------------------------------------------------------------------------------------------------

    @exclusive
    def add(self, facts: list[dict[str, Any]], updates: list[Update]) -> list[int]:
        """Make finished edits part of the memory, all of them or none.

        Args:
            facts: per edit its fields of `HEADER` but for the id.
            updates: per edit its update.

        Returns:
            the new ids.

        Raises:
            StoreError: they could not be kept. EditError: an update is not finite.
        """
        self.check_writable()
        dtype = dtype_of(self.record_dtype)
        records, first = [], self.state.next_id
        for number, (fact, update) in enumerate(zip(facts, updates, strict=True)):
            update = update.compact().rounded(dtype)
            if not update.is_finite():
                raise EditError("the edit's update is not finite: not made, the memory is unchanged")
            if not all(math.isfinite(fact[name] or 0) for name in ("loss", "seconds", "overlap")):
                raise EditError(f"the edit's loss is {fact['loss']}: not made, the memory is unchanged")
            header = {"seq": self.state.seq + 1 + number, "kind": "edit", "id": first + number, **fact,
                      "decay": update.decay, "scale": update.scale, "dtype": self.record_dtype}  # fmt: skip
            records.append((header, edit_body(update, dtype)))
        self._commit(records)
        return list(range(first, first + len(facts)))

    @exclusive
    def delete(self, edit: int) -> None:
        """Take an edit back: its update is subtracted, its signature removed, and what it superseded comes back.

        Its prompt is then answered as if the edit had never been made, up to what later edits, made while it was there,
        learned around it.
        """
        self._known(edit)
        if self.state.statuses[edit] == "deleted":
            raise ValueError(f"edit {edit} is deleted already")
        self._change([[edit, "deleted"], *([old, "active"] for old in self._succession().returning([edit]))])

    @exclusive
    def restore(self, edit: int) -> None:
        """Bring a deleted or superseded edit back; what contradicts it gives way, as before a new edit.

        Raises:
            ConflictError: the policy is "reject", and something in force contradicts it.
        """
        self._known(edit)
        statuses = self.state.statuses
        if statuses[edit] not in ("deleted", "superseded"):
            raise ValueError(f"edit {edit} is {statuses[edit]}, not deleted or superseded")
        self._bring_back(edit)

    @exclusive
    def disable(self, edit: int) -> None:
        """Let no query find an edit, without taking its update back. It goes on standing in for what it superseded."""
        self._known(edit)
        if self.state.statuses[edit] != "active":
            raise ValueError(f"edit {edit} is {self.state.statuses[edit]}, not active")
        self._change([[edit, "disabled"]])

    @exclusive
    def enable(self, edit: int) -> None:
        """Undo `disable`; what contradicts the edit by now gives way. Raises ConflictError as `restore`."""
        self._known(edit)
        if self.state.statuses[edit] != "disabled":
            raise ValueError(f"edit {edit} is {self.state.statuses[edit]}, not disabled")
        self._bring_back(edit)

    @exclusive
    def tag(self, edit: int, tags: Iterable[str]) -> None:
        """Replace an edit's tags."""
        self._known(edit)
        self.check_writable()
        header = {"seq": self.state.seq + 1, "kind": "tags", "id": edit, "tags": check_tags(tags), "created": now()}
        self._commit([(header, b"")])

    @exclusive
    def rollback(self, to: int | str) -> list[int]:
        """Every edit's status as it was after edit `to` (an id) was made, or at a time (ISO 8601); returns the changed edits.

        See `past.past_state` for what the state at a time is. Weight decay that happened since is not undone.
        """
        if not isinstance(to, str):
            self._known(to)
        found = changes_to(self.state, past_state(self.state, self.history(), to, self))
        changes: list[list[Any]] = [[edit, status] for edit, status in found]
        if changes:
            # What goes first: so that two edits of one prompt are never in the memory together.
            self._change(sorted(changes, key=lambda change: change[1] == "active"))
        return [edit for edit, _ in changes]

    # ---- parts ---------------------------------------------------------------------------------------------------

    def _succession(self) -> Succession:
        return Succession(self.state, self.conflict == "keep")

    def _bring_back(self, edit: int) -> None:
        old = self._succession().giving_way(edit)
        if old and self.conflict == "reject":
            raise self._contradiction(f"edit {edit}", old[0])
        self._change([*([i, "superseded"] for i in old), [edit, "active"]], by=edit)

    def _contradiction(self, what: str, old: int) -> ConflictError:
        row = self.state.edits[old]
        return ConflictError(
            f"{what} contradicts edit {old} ({quoted(row['prompt'])} -> {quoted(row['target'])}) and the conflict policy is 'reject': delete "
            "that edit first"
        )

    def _change(self, changes: list[list[Any]], by: int | None = None) -> None:
        """Keep and apply changes of statuses; by: the edit for which others give way, if that is why."""
        self.check_writable()
        for edit, status in changes:
            if self.state.needs_update(edit, status):
                self.state.update_of(edit)  # refused before anything is kept when its record is damaged or forgotten
        header = {"seq": self.state.seq + 1, "kind": "status", "changes": changes, "created": now()}
        header |= {} if by is None else {"by": by}
        self._commit([(header, b"")])

    def _known(self, edit: int) -> None:
        if isinstance(edit, bool) or not isinstance(edit, int):
            raise TypeError(f"edit must be an int, got {edit!r}")
        if edit not in self.state.entries:
            raise ValueError(f"there is no edit {edit} in {self}")

    def touched(self, entries: list[Entry]) -> list[int]:
        """The edits that some records make or change."""
        found: dict[int, None] = {}
        for entry in entries:
            header = entry.header
            ids = [edit for edit, _ in header["changes"]] if header["kind"] == "status" else [header["id"]]
            found.update(dict.fromkeys([*ids, *header.get("supersedes", [])]))
        return list(found)


def now() -> str:
    """The present time, ISO 8601 in UTC with microseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
