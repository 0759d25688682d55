"""One proposed fact, as it is kept in the queue and made by the worker."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from ...editing.request import EditRequest
from ...journal.edit_writer import note_of
from .refused import Refused

# The name in an edit's metadata under which the ledger tells who proposed it and who approved it.
REVIEW = "review"


@dataclass(frozen=True)
class Fact:
    """What is to be edited; the fields are those of `MemoirModel.edit`."""

    prompt: str
    target: str
    rephrasings: list[str] = field(default_factory=list)
    not_prompts: list[str] = field(default_factory=list)
    subject: str = ""
    key: str = ""
    author: str = ""
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What it is called among the kinds of proposals."""
        return "edit"

    @property
    def request(self) -> EditRequest:
        """As the editor takes it. Raises ValueError or TypeError where it is not accepted."""
        return EditRequest(self.prompt, self.target, tuple(self.rephrasings), tuple(self.not_prompts), self.subject, self.key)  # fmt: skip

    def checked(self) -> Fact:
        """The fact itself, if it can be stored. Raises Refused otherwise."""
        if REVIEW in self.metadata:
            raise Refused(422, f"metadata: the name {REVIEW!r} is the service's own, for who proposed and who approved: take another one")  # fmt: skip
        try:
            _ = self.request
            note_of(self.author, self.tags, self.metadata)
        except (ValueError, TypeError) as error:
            raise Refused(422, str(error)) from None
        return self

    def to_json(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def digest(self) -> str:
        """Tells whether two requests say the same."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
