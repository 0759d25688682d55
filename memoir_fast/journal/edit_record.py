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


@dataclass(frozen=True)
class EditResult:
    """What one edit did; the fields are the `EditRecord`'s, and:

    Attributes:
        converged: whether the loss after the last step is within `MemoirConfig.stop_loss`: the fact was learned.
    """

    id: int
    loss: float
    steps: int
    seconds: float
    nearest: int | None
    overlap: float
    supersedes: list[int] = field(default_factory=list)
    converged: bool = True
