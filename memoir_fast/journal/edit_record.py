"""What is known of one edit. Ledgers, logs, results and JSON take their fields from here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

_NUMBER, _COUNT = (int, float, type(None)), (int, type(None))


@dataclass(frozen=True)
class EditRecord:
    """One edit as people and programs see it; also a row of a store's ledger.

    Attributes:
        id: its number. prompt, target: what was asked for. author, tags, metadata: the user's notes. created: ISO 8601, UTC.
        status: see `STATUSES` in `state.py`.
        loss: the training loss when it stopped; steps: SGD steps; seconds: wall time of making it. None where that is not known.
        nearest: the stored edit whose mask overlapped this one most when it was made, None when there was none; overlap: by how much, 0..1.
        supersedes: the edits that it replaced.
        seq: the journal's record that made it; 0 for an edit that came from a memory folder.
        rephrasings: further wordings of the prompt; not_prompts: prompts that must not read it; subject: words that a prompt must hold;
            key: the user's own name for the fact. See `EditRequest`.
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
        """The record of an edit's header, with some fields changed; what the header does not know keeps its default."""
        return cls(**{name: header[name] for name in FIELDS if name in header} | changes)

    def row(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


FIELDS = tuple(f.name for f in fields(EditRecord))
# The fields that an edit's record in a journal carries, with the types that a reader accepts; status and seq come from the journal.
HEADER: dict[str, Any] = {
    "id": int, "prompt": str, "target": str, "author": str, "created": str, "loss": _NUMBER, "steps": _COUNT, "seconds": _NUMBER,
    "nearest": _COUNT, "overlap": _NUMBER, "supersedes": list, "tags": list, "metadata": dict,
}  # fmt: skip
# Fields that came later: a record without one of them has the default. codes: what the prompt, the rephrasings and the not_prompts say,
# in this order, see `reading/matching/matcher.py` (`Wording.packed`); empty where no matcher read them.
LATER: dict[str, Any] = {"rephrasings": list, "not_prompts": list, "subject": str, "key": str, "codes": list}


@dataclass(frozen=True)
class EditResult:
    """What one edit did; the fields are the `EditRecord`'s, and:

    Attributes:
        converged: whether the loss after the last step is within `MemoirConfig.stop_loss`: the fact was learned.
        threshold: the score from which a prompt reads this edit now.
        similar: up to three stored edits (ids) that the prompt might have asked for too, likeliest first; those that it superseded count.
        also_answers: the `not_prompts` that would read this edit if they had not been named.
        existing: nothing was written, because the same fact is stored under the same `key`.
        answers: prompt and rephrasings -> what the model answers to them now, up to a few tokens beyond the target; {} where `verify` did not
            ask for it. took: whether all of these are the target, and end (begin with it, where `MemoirConfig.end` is "none"); None.
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
