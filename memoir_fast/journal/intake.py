"""Taking in many facts, so that a file which is given again makes each of its edits once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..editing.request import EditRequest
from ..errors import ConflictError, EditError, on_purpose
from .edit_record import EditResult
from .journal import Journal
from .state import State
from .teaching import Teaching

# What became of a fact: made; stored already and in force or disabled; made earlier, and taken back or superseded since; left out for a later
# one of the same key; not made, because of an error.
OUTCOMES = ("made", "stored", "gone", "replaced", "failed")


@dataclass(frozen=True)
class Statement:
    """One fact with the notes that are kept with it.

    Attributes:
        request: the fact; author, tags, metadata: as for `MemoirModel.edit`.
        where: where it was said, for messages: "facts.jsonl, line 7".
        error: why it is none, "" for one that can be made; `request` is then None.
    """

    request: EditRequest | None
    author: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    where: str = ""
    error: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of one statement.

    Attributes:
        statement: it. outcome: see `OUTCOMES`. edit: the id of the edit that holds it, None where there is none.
        result: of an edit that was made. note: why nothing was made, or what a person should know; "" for nothing.
    """

    statement: Statement
    outcome: str
    edit: int | None = None
    result: EditResult | None = None
    note: str = ""

    @property
    def took(self) -> bool:
        """Whether there is nothing to look at: it was made and, where that was asked, answers its prompts; or it needed not to be made."""
        return self.outcome != "failed" and (self.result is None or self.result.took is not False)

    def row(self) -> dict[str, Any]:
        """As JSON: where it was said, the outcome, and the result's fields; those are null where no edit was made, but for `took`, which is false
        for a fact that failed."""
        request, result = self.statement.request, self.result
        return {
            "where": self.statement.where,
            "outcome": self.outcome,
            "note": self.note,
            "edit": self.edit,
            "prompt": None if request is None else request.prompt,
            "target": None if request is None else request.target,
            **dict.fromkeys(one.name for one in fields(EditResult)),
            **({"took": None if self.took else False} if result is None else asdict(result)),
        }


class Intake:
    """What a journal has of some statements. A fact with a key is told by it, and is there if the key's last edit says the same; one without is
    told by its content. So no mark has to be kept with the edits.

    Args:
        state: of the journal.
    """

    def __init__(self, state: State):
        self._state, self._seen = state, 0
        self._by_content: dict[tuple, int] = {}
        self._by_key: dict[str, int] = {}
        self._look()

    def met(self, request: EditRequest) -> int | None:
        """The edit that was made of this very fact, whatever its status, or None."""
        self._look()
        content = _content(asdict(request))
        if not request.key:
            return self._by_content.get(content)
        last = self._by_key.get(request.key)
        return last if last is not None and _content(self._state.row(last)) == content else None

    def _look(self) -> None:
        """Take in the edits that were made since the last look."""
        for edit in range(self._seen, self._state.next_id):
            if edit in self._state.entries:  # ids of a memory folder have gaps
                row = self._state.row(edit)
                self._by_content[_content(row)] = edit
                if row["key"]:
                    self._by_key[row["key"]] = edit
        self._seen = self._state.next_id

    def outcome(self, statement: Statement, edit: int) -> Outcome:
        """Of a statement that was met as an edit."""
        row = self._state.row(edit)
        if row["status"] not in ("active", "disabled"):
            by = [str(one) for one in self._state.successors.get(edit, [])]
            why = f" by edit {by[-1]}" if row["status"] == "superseded" and by else ""
            return Outcome(statement, "gone", edit, note=f"edit {edit} was made of it and is {row['status']}{why}")
        differing = [
            name
            for name, said in (
                ("tags", list(statement.tags)),
                ("author", statement.author),
                ("metadata", statement.metadata),
            )
            if said and row[name] != said
        ]
        notes = ["it is disabled"] if row["status"] == "disabled" else []
        notes += [f"its {' and '.join(differing)} differ from what is stored, which stays"] if differing else []
        return Outcome(statement, "stored", edit, note="; ".join(notes))


def take_in(teacher: Teaching, journal: Journal, statements: Sequence[Statement], *, again: bool = False, continue_on_error: bool = False,
            verify: bool = False, **settings: Any) -> Iterator[Outcome]:  # fmt: skip
    """Make the edits that the journal lacks, one after the other; each is kept before the next begins, so that an interrupted call is
    continued by the same one.

    Args:
        teacher: makes the edits; journal: its journal.
        statements: in order. Of several with one key the last counts.
        again: also make those anew that were made before, and taken back or superseded since.
        continue_on_error: go on behind a statement that cannot be made.
        verify, settings: as for `MemoirModel.edit`.

    Yields:
        what became of each statement, in order.

    Raises:
        ValueError, EditError, ConflictError: a statement cannot be made, unless `continue_on_error`; the message names it, and those before
            it are made. StoreError: the journal could not keep an edit.
    """
    intake, last = Intake(journal.state), last_of_keys(statements)
    for number, statement in enumerate(statements):
        known = skipped(intake, statement, number, last, again)
        if known is not None:
            yield known
            continue
        try:
            if statement.request is None:
                raise ValueError(statement.error)
            made = teacher.edit_many([statement.request], author=statement.author, tags=statement.tags,
                                     metadata=statement.metadata, verify=verify, **settings)[0]  # fmt: skip
        except (ValueError, TypeError, EditError, ConflictError) as error:
            if isinstance(error, (ValueError, TypeError)) and not on_purpose(error):
                raise  # a bug is no line's fault
            if not continue_on_error:
                where = f"{statement.where}: " if statement.where and not str(error).startswith(statement.where) else ""
                raise type(error)(f"{where}{error}") from error
            yield Outcome(statement, "failed", note=str(error))
        else:
            yield Outcome(statement, "stored" if made.existing else "made", made.id, made)


def skipped(intake: Intake, statement: Statement, number: int, last: dict[str, int], again: bool) -> Outcome | None:
    """What is to be said of a statement for which nothing has to be made; None for one that has to. number: its place; last: of all keys."""
    request = statement.request
    if request is None:
        return None
    if request.key and last[request.key] != number:
        return Outcome(statement, "replaced", note=f"a later one has its key {request.key!r}")
    edit = intake.met(request)
    if edit is None:
        return None
    found = intake.outcome(statement, edit)
    return None if again and found.outcome == "gone" else found


def last_of_keys(statements: Sequence[Statement]) -> dict[str, int]:
    """Key -> the place of the last statement that has it."""
    return {
        one.request.key: number for number, one in enumerate(statements) if one.request is not None and one.request.key
    }


def _content(row: dict[str, Any]) -> tuple:
    """What an edit says, as far as its key would tell it from another."""
    texts = (row["prompt"].strip(), row["target"].strip(), row["subject"])
    return (*texts, tuple(row["rephrasings"]), tuple(row["not_prompts"]))
