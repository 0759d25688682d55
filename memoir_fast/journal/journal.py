"""A journal records what happened to each edit, so that it can be undone. On disk it is a `Store`; otherwise it is
volatile."""

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
from .lists import folded
from .past import changes_to, check_meant, past_state
from .record import Entry, dtype_of, edit_body
from .state import State
from .succession import Succession

if TYPE_CHECKING:
    import torch

    from ..memory.residual import ResidualMemory
    from ..memory.update import Update

CONFLICTS = ("supersede", "keep", "reject")
_Verb = TypeVar("_Verb", bound=Callable)


def exclusive(verb: _Verb) -> _Verb:
    """Decorator for a journal's methods that change the memory: each holds the journal's `writing` lock."""

    @functools.wraps(verb)
    def alone(self: Journal, *args: Any, **kwargs: Any) -> Any:
        with self.writing:
            return verb(self, *args, **kwargs)

    return alone  # type: ignore[return-value]


class Journal(ABC):
    """What both kinds of journal share: the changes an edit can go through, and their consequences.

    Every change is one record. It is kept first and then applied to the memory as a whole, so a reader sees all of it
    or none.

    Attributes:
        memory: the residual memory.
        state: the result of all records so far.
        conflict: what happens when a new edit asks what a stored one asks but has another target: "supersede" the
            stored one, "keep" both, or "reject" the new one. `EditWriter` says when two prompts ask the same.
        record_dtype: dtype of the records' tensors, a name in `DTYPES`; V is written from the rounded values.
        writing: a reentrant lock, held while the memory or its settings are changed. Readers never take it.
    """

    memory: ResidualMemory
    state: State
    conflict: str = "keep"
    record_dtype: str = "float32"

    def __init__(self) -> None:
        self.writing = threading.RLock()

    # ---- how records are kept (subclasses) -----------------------------------------------------------------------

    @abstractmethod
    def check_writable(self) -> None:
        """Raise StoreError unless records can be written."""

    @abstractmethod
    def history(self, after: int = 0) -> list[Entry]:
        """The records with numbers above `after`, in order."""

    @abstractmethod
    def _commit(self, records: list[tuple[dict, bytes]]) -> None:
        """Keep records, then apply them; all or none."""

    @abstractmethod
    def configure(self, config: MemoirConfig, tensors: dict[str, torch.Tensor] | None = None) -> None:
        """Store changed settings and measured tensors, if this journal stores them. Raises StoreError if it cannot
        write.

        Args:
            config: the settings; those of `config.SHAPING` are unchanged.
            tensors: what thresholds and matching are made from: "calibration", and those of `MemoryState.words` with
                `WORDS` in front of their names.
        """

    def refresh(self) -> int:
        """Take over what another process has added; returns the number of records."""
        return 0

    @property
    def settings(self) -> tuple[MemoirConfig, torch.Tensor, dict[str, torch.Tensor] | None] | None:
        """What `configure` stored last: the settings, and `calibration` and `words` as in `MemoryState`. None if the
        journal belongs to this process alone."""
        return None

    @abstractmethod
    def flush(self) -> None:
        """Wait until every edit so far is stored durably. Raises StoreError if that fails."""

    @abstractmethod
    def close(self) -> None:
        """Release the journal's files and locks; it cannot be written to afterwards."""

    # ---- queries -------------------------------------------------------------------------------------------------

    @property
    def edits(self) -> dict[int, dict[str, Any]]:
        """The active edits' rows (see `EditRecord`), by id."""
        with self.memory.lock:
            return dict(self.state.edits)

    @property
    def next_id(self) -> int:
        """The id that the next edit will get."""
        return self.state.next_id

    def tags_of(self, edit: int) -> list[str]:
        """An edit's tags; the caller holds the memory's lock."""
        return self.state.tags.get(edit, [])

    def same_text(self, prompt: str) -> list[int]:
        """The active edits whose prompt or rephrasing is this text, up to case and blanks."""
        with self.memory.lock:
            return [edit for edit in self.state.asking(folded(prompt)) if edit in self.state.edits]

    def named(self, key: str) -> int | None:
        """The active edit stored under the user's key, the one that is active longest among several, or None."""
        with self.memory.lock:
            active = [edit for edit in self.state.keyed(key) if edit in self.state.edits]
            return min(active, key=self.state.rank, default=None)

    def conflicts(self, same: Iterable[int], target: str) -> list[int]:
        """The active edits that a new edit would replace: those among `same` with another target, ascending.

        Args:
            same: active edits that ask what the new edit asks.
            target: the new edit's target.

        Returns:
            their ids; none with the policy "keep".

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
        """Make finished edits part of the memory, all or none.

        Args:
            facts: per edit, its fields of `HEADER` except the id.
            updates: per edit, its update.

        Returns:
            the new ids.

        Raises:
            StoreError: the edits could not be kept.
            EditError: an update or a loss is not finite.
        """
        self.check_writable()
        dtype = dtype_of(self.record_dtype)
        records, first = [], self.state.next_id
        for number, (fact, update) in enumerate(zip(facts, updates, strict=True)):
            update = update.compact().rounded(dtype)
            if not update.is_finite():
                raise EditError("the edit's update is not finite; it was not made and the memory is unchanged")
            if not all(math.isfinite(fact[name] or 0) for name in ("loss", "seconds", "overlap")):
                raise EditError(f"the edit's loss is {fact['loss']}; it was not made and the memory is unchanged")
            header = {"seq": self.state.seq + 1 + number, "kind": "edit", "id": first + number, **fact,
                      "decay": update.decay, "scale": update.scale, "dtype": self.record_dtype}  # fmt: skip
            records.append((header, edit_body(update, dtype)))
        self._commit(records)
        return list(range(first, first + len(facts)))

    @exclusive
    def delete(self, edit: int) -> None:
        """Take an edit back: subtract its update, remove its signature, and bring back what it superseded.

        Its prompt is then answered as if the edit had never been made, except that later edits were learned while it
        was there.

        Raises:
            TypeError, ValueError: there is no such edit, it is deleted already, or its update is not kept or is
                damaged.
            StoreError: the change could not be kept.
        """
        self._known(edit)
        if self.state.statuses[edit] == "deleted":
            raise ValueError(f"edit {edit} is deleted already")
        self._change([[edit, "deleted"], *([old, "active"] for old in self._succession().returning([edit]))])

    @exclusive
    def restore(self, edit: int) -> None:
        """Bring a deleted or superseded edit back. Active edits that contradict it are superseded, as by a new edit.

        Raises:
            ConflictError: the policy is "reject", and an active edit contradicts it.
            TypeError, ValueError: there is no such edit, its status is another, or an update is not kept or is damaged.
            StoreError: the change could not be kept.
        """
        self._known(edit)
        statuses = self.state.statuses
        if statuses[edit] not in ("deleted", "superseded"):
            raise ValueError(f"edit {edit} is {statuses[edit]}, not deleted or superseded")
        self._bring_back(edit)

    @exclusive
    def disable(self, edit: int) -> None:
        """Hide an edit from queries without taking its update back. What it superseded does not come back.

        Raises:
            TypeError, ValueError: there is no such edit, or it is not active.
            StoreError: the change could not be kept.
        """
        self._known(edit)
        if self.state.statuses[edit] != "active":
            raise ValueError(f"edit {edit} is {self.state.statuses[edit]}, not active")
        self._change([[edit, "disabled"]])

    @exclusive
    def enable(self, edit: int) -> None:
        """Undo `disable`; active edits that contradict the edit by now are superseded. Raises as `restore`."""
        self._known(edit)
        if self.state.statuses[edit] != "disabled":
            raise ValueError(f"edit {edit} is {self.state.statuses[edit]}, not disabled")
        self._bring_back(edit)

    @exclusive
    def tag(self, edit: int, tags: Iterable[str]) -> None:
        """Replace an edit's tags. Raises TypeError or ValueError for an unknown edit or bad tags, StoreError if not
        kept."""
        self._known(edit)
        self.check_writable()
        header = {"seq": self.state.seq + 1, "kind": "tags", "id": edit, "tags": check_tags(tags), "created": now()}
        self._commit([(header, b"")])

    @exclusive
    def rollback(self, to: int | str, empty: bool = False) -> list[int]:
        """Give every edit the status that it had just after edit `to` was made, or at a time; returns the changed
        edits.

        See `past.past_state` for what the state at a time is. Weight decay that happened since is not undone.

        Args:
            empty: let a time before the first edit delete all edits.

        Raises:
            TypeError, ValueError: there is no such edit, `to` is no time, or it is before the first edit without `empty`.
            StoreError: the change could not be kept.
        """
        if not isinstance(to, str):
            self._known(to)
        past = past_state(self.state, self.history(), to, self)
        found = changes_to(self.state, past)
        if not empty:
            check_meant(self.state, past, to, "empty=True")
        changes: list[list[Any]] = [[edit, status] for edit, status in found]
        if changes:
            # Removals come first, so that two edits of one prompt are never in the memory together.
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
        """Keep and apply (edit, status) changes. by: the edit that the others are superseded by, if there is one."""
        self.check_writable()
        for edit, status in changes:
            if self.state.needs_update(edit, status):
                self.state.update_of(edit)  # raises for a damaged or forgotten record, before anything is kept
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
