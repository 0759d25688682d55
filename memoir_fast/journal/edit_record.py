"""What is known about one edit. Ledgers, logs, results and JSON take their fields from here."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, fields
from typing import Any

_NUMBER, _COUNT = (int, float, type(None)), (int, type(None))


@dataclass(frozen=True)
class EditRecord:
    """One edit as people and programs see it; also a row of a store's ledger.

    Attributes:
        id: the edit's number.
        prompt, target: what was asked for.
        author, tags, metadata: the user's notes.
        created: ISO 8601, UTC.
        status: see `STATUSES` in `state.py`.
        loss: the training loss when it stopped; None if not known, as for steps and seconds.
        steps: SGD steps made.
        seconds: wall time of making the edit.
        nearest: the stored edit whose mask overlapped this one's most when it was made; None if there was none.
        overlap: that overlap, 0..1.
        supersedes: the edits that it replaced.
        seq: the number of the journal's record that made it; 0 for an edit that came from a memory folder.
        rephrasings, not_prompts, subject, key: see `EditRequest`.
    """

    id: int
    prompt: str
    target: str
    author: str = ""
    created: str = ""
    status: str = "active"
    loss: float | None = None
    steps: int | None = None
    seconds: float | None = None
    nearest: int | None = None
    overlap: float | None = None
    supersedes: list[int] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    seq: int = 0
    rephrasings: list[str] = field(default_factory=list)
    not_prompts: list[str] = field(default_factory=list)
    subject: str = ""
    key: str = ""

    @classmethod
    def of(cls, header: dict[str, Any], **changes: Any) -> EditRecord:
        """An `EditRecord` from an edit's header, with some fields changed; fields missing in the header keep their
        defaults."""
        return cls(**{name: header[name] for name in FIELDS if name in header} | changes)

    def row(self) -> dict[str, Any]:
        """The fields by name, in lists and dictionaries of their own."""
        return row_of(vars(self))


FIELDS = tuple(f.name for f in fields(EditRecord))
_DEFAULTS = EditRecord(0, "", "")


def row_of(header: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """`EditRecord.of(header, **changes).row()`, in a third of the time: opening a store makes a row of each of its edits."""
    found = {}
    for name in FIELDS:
        value = changes[name] if name in changes else header[name] if name in header else getattr(_DEFAULTS, name)
        if type(value) is list:
            value = value.copy()  # of numbers or texts
        elif type(value) is dict:
            value = deepcopy(value)
        found[name] = value
    return found


# The fields of an edit's record in a journal, with the types that a reader accepts. status and seq come from the
# journal.
HEADER: dict[str, Any] = {
    "id": int, "prompt": str, "target": str, "author": str, "created": str, "loss": _NUMBER, "steps": _COUNT, "seconds": _NUMBER,
    "nearest": _COUNT, "overlap": _NUMBER, "supersedes": list, "tags": list, "metadata": dict,
}  # fmt: skip
# Fields added later; a record without them has the defaults. codes: one text each for the prompt, the rephrasings and
# the not_prompts, in this order (`Wording.packed` in `reading/matching/matcher.py`); empty if no matcher read them.
LATER: dict[str, Any] = {"rephrasings": list, "not_prompts": list, "subject": str, "key": str, "codes": list}


@dataclass(frozen=True)
class EditResult:
    """What one edit did. The fields not listed are those of `EditRecord`.

    Attributes:
        converged: whether the loss after the last step is at most `MemoirConfig.stop_loss`, so the fact was learned.
        threshold: the score from which a prompt reads this edit now.
        similar: ids of up to three stored edits that the prompt might ask for too, likeliest first; superseded ones
            count.
        also_answers: the `not_prompts` that would read this edit if they had not been named.
        existing: nothing was written, because the same fact is already stored under the same `key`.
        answers: with `verify`, what the model now answers to the prompt and to each rephrasing, up to a few tokens
            beyond the target; otherwise {}.
        took: with `verify`, whether all answers are the target and end there (or, if `MemoirConfig.end` is "none",
            begin with it); otherwise None.
    """

    id: int
    loss: float
    steps: int
    seconds: float
    nearest: int | None
    overlap: float
    supersedes: list[int] = field(default_factory=list)
    converged: bool = True
    threshold: float | None = None
    similar: list[int] = field(default_factory=list)
    also_answers: list[str] = field(default_factory=list)
    existing: bool = False
    answers: dict[str, str] = field(default_factory=dict)
    took: bool | None = None
