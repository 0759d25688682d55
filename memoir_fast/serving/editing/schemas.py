"""What requests and answers of the service look like; the OpenAPI page is made from this."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1, max_length=20_000)]
Short = Annotated[str, Field(max_length=1_000)]
Texts = Annotated[list[Text], Field(max_length=64)]
EditStatus = Literal["active", "disabled", "superseded", "deleted"]
ProposalStatus = Literal["waiting", "queued", "made", "failed", "rejected"]
Verb = Literal["disable", "enable", "restore", "delete"]


class Given(BaseModel):
    """Strict: an unknown field is refused, and no value is made into another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class NewEdit(Given):
    """A fact to teach; see `EditRequest` for what each field does."""

    prompt: Annotated[Text, Field(description="what will be asked")]
    target: Annotated[Text, Field(description="the complete answer")]
    rephrasings: Annotated[Texts, Field(description="further wordings of the prompt")] = []
    not_prompts: Annotated[Texts, Field(description="prompts that must keep the base model's answer")] = []
    subject: Annotated[Short, Field(description="words that a question must hold to read the edit")] = ""
    key: Annotated[
        Short, Field(description="your own name for the fact: a later edit with it takes this one's place")
    ] = ""
    author: Annotated[
        Short, Field(description="kept with the edit (default: the name of the key that proposed it)")
    ] = ""
    tags: Annotated[list[Short], Field(max_length=64, description="to choose edits by")] = []
    metadata: Annotated[
        dict[str, Any], Field(description="any JSON object that is kept with the edit; `review` is the service's own")
    ] = {}


class Change(Given):
    """Something to do with a stored edit."""

    verb: Verb
    edit: Annotated[int, Field(ge=0)]


class PreviewOf(Given):
    """What to try out: new edits, a proposal, and changes of stored edits, all together."""

    edits: Annotated[list[NewEdit], Field(max_length=16)] = []
    proposal: Annotated[int | None, Field(description="the number of a proposal")] = None
    changes: Annotated[list[Change], Field(max_length=64)] = []
    questions: Annotated[Texts, Field(description="asked before and after (default: the wordings of the edits)")] = []
    stored: Annotated[bool, Field(description="also look which stored questions would read another edit")] = True
    max_new_tokens: Annotated[int, Field(ge=1, le=256)] = 32


class Rollback(Given):
    """A point to go back to. Without `confirm`, only what would change is told."""

    to: Annotated[str | int, Field(description="an edit's id, or a time like 2026-01-31T12:00:00+00:00")]
    confirm: Annotated[str | None, Field(description="the word that the preview gave")] = None
    empty: Annotated[bool, Field(description="let a time before the first edit delete every edit")] = False
    reason: Annotated[str, Field(max_length=2_000, description="why; kept with who did it")] = ""


class Reason(Given):
    """Why a proposal is approved or rejected."""

    reason: Annotated[str, Field(max_length=2_000)] = ""


class Edit(BaseModel):
    """A stored edit: its row in the ledger."""

    model_config = ConfigDict(extra="allow")

    id: int
    prompt: str
    target: str
    status: str
    author: str
    created: str
    tags: list[str]
    metadata: dict[str, Any]
    seq: int


class Event(BaseModel):
    """Something that happened to an edit: when, what, in which record of the store, because of which other edit, and at whose order; where a
    proposal asked for it, its number, who proposed it, and why."""

    at: str
    what: str
    seq: int
    by: int | None = None
    who: str | None = None
    proposal: int | None = None
    proposed_by: str | None = None
    reason: str = ""


class EditWithHistory(Edit):
    """A stored edit, with what happened to it."""

    history: list[Event]


class Edits(BaseModel):
    """A page of stored edits, the newest first. next: what to give as `before` for the following page, null at the end."""

    edits: list[Edit]
    total: int
    next: int | None


class Changed(BaseModel):
    """A stored edit after a change. live: whether vLLM serves the change, null where the service knows no vLLM."""

    edit: Edit
    live: bool | None
    note: str = ""


class Becomes(BaseModel):
    """An edit, and the status that it is to get."""

    edit: int
    becomes: EditStatus


class ProposedChange(BaseModel):
    """What is to become of stored edits. change: disable, enable, restore, delete or rollback, which goes back to the point `to`."""

    change: str
    edits: list[Becomes]
    to: str
    reason: str


class Proposed(BaseModel):
    """A proposal: of an edit (`fact`), or of a change of stored ones (`change`). status: waiting (for approval), queued, made, failed or rejected.
    edit: the one that was made or changed. live: whether vLLM serves that."""

    id: int
    status: str
    kind: str
    fact: NewEdit | None
    change: ProposedChange | None
    proposed_by: str
    proposed_at: str
    decided_by: str | None
    decided_at: str | None
    edit: int | None
    result: dict[str, Any] | None
    reason: str
    finished_at: str | None
    live: bool | None = None
    note: str = ""


class Proposals(BaseModel):
    """A page of proposals, the newest first. next: as for `Edits`."""

    proposals: list[Proposed]
    next: int | None


class Reading(BaseModel):
    """How a question is answered: by which edit, with which score and threshold, and the text (empty where no edit is read at either time)."""

    edit: int | None
    score: float
    threshold: float
    answer: str


class Asked(BaseModel):
    """A question before and after."""

    question: str
    before: Reading
    after: Reading
    changed: bool


class Moved(BaseModel):
    """A stored question that would read another edit than before."""

    edit: int
    question: str
    before: int | None
    after: int | None


class Previewed(BaseModel):
    """What would happen; nothing of it was kept. A new edit is named by `would_be`, the number that it would get next."""

    edits: list[dict[str, Any]]
    questions: list[Asked]
    stored: list[Moved]
    looked_at: int


class Routed(BaseModel):
    """Which edit a prompt reads, and why; with answers=true also what the base model and the edited one answer."""

    model_config = ConfigDict(extra="allow")

    prompt: str
    edit: int | None
    score: float
    threshold: float
    candidates: list[dict[str, Any]]


class WouldChange(BaseModel):
    """An edit that a rollback changes: the status that it has, and the one that it becomes."""

    edit: int
    prompt: str
    target: str
    status: str
    becomes: str


class RolledBack(BaseModel):
    """A rollback, or its preview: done says which. confirm: the word with which the same request is carried out."""

    to: str
    changes: list[WouldChange]
    confirm: str
    done: bool
    deletes_all: bool
    live: bool | None = None
    note: str = ""


class Failure(BaseModel):
    """Why a request was not done, and what to do."""

    error: dict[str, Any]
