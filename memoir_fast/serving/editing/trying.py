"""What people ask before they decide: which edit a question reads, what edits would change, what a rollback would do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...journal.edit_record import EditResult
from ...journal.preview import preview
from .changes import ROLLBACK, Change, carry_out, check_doable, roll_back_to
from .facts import Fact
from .keys import Caller
from .queue import Proposal
from .refused import Refused
from .service import Service

ASKED = 64  # questions that a preview asks by itself
_STORED = 200  # stored questions that a preview looks at, the newest


@dataclass(frozen=True)
class Wishes:
    """What a preview is asked for.

    Attributes:
        facts: to be edited; changes: of stored edits.
        questions: to be asked before and after; without any, the wordings of those facts and edits, sixty-four at most.
        stored: also look which stored questions would read another edit; max_new_tokens: of an answer.
    """

    facts: Sequence[Fact] = ()
    changes: Sequence[Change] = ()
    questions: Sequence[str] = ()
    stored: bool = True
    max_new_tokens: int = 32


async def route(service: Service, prompt: str, top: int = 5, answers: bool = False) -> dict[str, Any]:
    """Which stored edit a prompt reads, and why, see `Answering.route`; candidates also tell the edit's prompt and target.

    Args:
        answers: also "before", what the base model answers, and "after", what the edited one does.
    """

    def look() -> dict[str, Any]:
        found: dict[str, Any] = service.model.route(prompt, top=top)
        if answers:
            with service.model.disabled():
                found["before"] = service.model.ask(prompt)
            found["after"] = found["before"] if found["edit"] is None else service.model.ask(prompt)
        return found

    found = {"prompt": prompt, **await service.run(look)}
    for one in found["candidates"]:
        row = service.shelf.row(one["edit"]) or {}
        one |= {name: row.get(name, "") for name in ("prompt", "target")}
    return found


async def try_out(service: Service, wishes: Wishes) -> dict[str, Any]:
    """What some edits would do; nothing of it is kept.

    Returns:
        "edits": what making each told, would_be being the number that it would get; "questions": see `preview.Change.row`; "stored": the stored questions that would read another edit;
        "looked_at": how many stored questions were looked at.

    Raises:
        Refused: an edit cannot be made, or a change cannot be done.
    """
    for edit in (edit for one in wishes.changes for edit, _ in one.edits):
        service.row(edit)
    found: dict[str, Any] = await service.run(lambda: _tried(service, wishes))
    return found


def _tried(service: Service, wishes: Wishes) -> dict[str, Any]:
    model = service.model
    for one in wishes.changes:
        check_doable(one, service.store)
    made: list[EditResult] = []
    after: list[dict[str, Any]] = []
    stored = _stored_questions(service) if wishes.stored else []
    texts = [text for _, text in stored]
    before = model.route(texts, top=1) if texts else []

    def change() -> None:
        for one in wishes.changes:
            carry_out(one, model)
        if wishes.facts:
            made.extend(model.edit_many([fact.request for fact in wishes.facts]))
        after.extend(model.route(texts, top=1) if texts else [])

    questions = list(wishes.questions) or own_questions(service, wishes)
    rows = preview(model, list(dict.fromkeys(questions)), change, wishes.max_new_tokens)
    told = [{"prompt": fact.prompt, "target": fact.target, **_as_told(asdict(result))} for fact, result in zip(wishes.facts, made, strict=True)]  # fmt: skip
    return {
        "edits": told,
        "questions": [row.row() for row in rows],
        "stored": [
            {"edit": edit, "question": text, "before": old["edit"], "after": new["edit"]}
            for (edit, text), old, new in zip(stored, before, after, strict=True)
            if old["edit"] != new["edit"]
        ],
        "looked_at": len(stored),
    }


def own_questions(service: Service, wishes: Wishes) -> list[str]:
    """The wordings of the facts and of the edits that would change."""
    texts = [text for fact in wishes.facts for text in fact.request.wordings]
    changed = [service.row(edit) for one in wishes.changes for edit, _ in one.edits]
    return [*texts, *(text for row in changed for text in (row["prompt"], *row["rephrasings"]))][:ASKED]


def _stored_questions(service: Service) -> list[tuple[int, str]]:
    """(edit, its prompt or a rephrasing) of the newest active edits."""
    found = [
        (row["id"], text)
        for row in reversed(service.shelf.rows())
        if row["status"] == "active"
        for text in (row["prompt"], *row["rephrasings"])
    ]
    return found[:_STORED]


def _as_told(result: dict[str, Any]) -> dict[str, Any]:
    """What a rehearsed edit told; its number is the one that it would get next."""
    left_out = ("id", "seconds", "answers", "took")
    return {"would_be": result["id"], **{name: value for name, value in result.items() if name not in left_out}}


async def roll_back(service: Service, to: str, by: Caller, confirm: str | None, empty: bool = False, reason: str = "", request: str | None = None) -> dict[str, Any] | Proposal:  # fmt: skip
    """What a rollback would change, or, with the word of that preview in `confirm`, the rollback itself or, where somebody else has to approve, its proposal.

    Args:
        to: an edit's id or a time; empty: that a time before the first edit deletes every edit is meant; request: the idempotency key, None for none.

    Returns:
        "changes": [{"edit", "prompt", "target", "status", "becomes"}], "confirm": the word, "done": whether it was done.

    Raises:
        Refused: there is no such point; it would delete everything; or the store was changed since the preview.
    """
    asked = Change(ROLLBACK, [], to, empty, confirm or "", reason)
    decides = service.may_decide(by)
    if confirm is not None and not decides:
        known = await asyncio.to_thread(service.queue.known, asked, by.name, request)
        if known is not None:
            return known

    def work() -> tuple[dict[str, Any], Change | None]:
        back = roll_back_to(service.store, to, empty=empty or confirm is None)
        found = {"to": to, "changes": shown(service, back.edits), "confirm": back.word, "done": False, "deletes_all": back.deletes_all}  # fmt: skip
        if confirm is None or not back.edits:
            return found, None
        if confirm != back.word:
            raise Refused(
                409,
                "confirm: the edits have changed since that preview, or it was of another point: ask for the preview again",
            )
        change = replace(asked, edits=back.edits)
        if decides:
            service.act(by.name, change, lambda: carry_out(change, service.model))
        return {**found, "done": decides}, change

    done, change = await service.run(work)
    if change is None or decides:
        return done
    made, _ = await asyncio.to_thread(service.propose, change, by, request)
    return made


def shown(service: Service, edits: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """What becomes of some edits, for people; also of those that the store, put back from a copy, does not have any more."""
    lost = {"prompt": "", "target": "", "status": "not in the store any more"}
    rows = [(edit, service.shelf.row(edit) or lost, becomes) for edit, becomes in edits]
    return [{"edit": edit, **{name: row[name] for name in lost}, "becomes": becomes} for edit, row, becomes in rows]
