"""The routes for programs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.security import HTTPBearer

from . import schemas, trying
from .changes import Change
from .facts import REVIEW, Fact
from .keys import Caller
from .queue import FAILED, MADE, WAITING, Proposal
from .refused import Refused
from .service import Service

_LONGEST_WAIT, _USUAL_WAIT = 300.0, 30.0  # seconds for which a request waits for its edit
Number = Annotated[int, Path(ge=0, lt=1 << 53)]
Limit = Annotated[int, Query(ge=1, le=200, description="the most to return")]
Before = Annotated[
    int | None, Query(ge=0, lt=1 << 53, description="only those with smaller numbers: `next` of the page before")
]
Wait = Annotated[float, Query(ge=0, le=_LONGEST_WAIT, description="seconds to wait for the edit to be made")]
Why = Annotated[str, Query(max_length=2_000, description="why; kept with who did it")]
Once = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="of what is proposed: the same request again gets the answer to the first",
    ),
]
Search = Annotated[list[str], Query(max_length=32, default_factory=list)]
_WAITS: dict[str, Any] = {"model": schemas.Proposed, "description": "it waits for approval or for its turn"}
FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Failure} for status in (401, 403, 404, 409, 413, 422, 429, 503)
}


def caller_of(request: Request) -> Caller:
    """Who asks, as the gate found out. Raises Refused where nobody does."""
    found: Caller | None = request.scope["state"].get("caller")
    if found is None:
        raise Refused(401, "a key is needed: send the header `Authorization: Bearer KEY`")
    return found


def needs(role: str) -> Any:
    """A dependency: the caller, whose role must include this one."""

    def check(request: Request) -> Caller:
        caller = caller_of(request)
        if not caller.may(role):
            raise Refused(403, f"the role of {caller.name} is {caller.role}, and this needs {role}: use another key")
        return caller

    return Depends(check)


Reader = Annotated[Caller, needs("read")]
Proposer = Annotated[Caller, needs("propose")]


def routes(service: Service) -> APIRouter:
    """The routes of a service."""
    router = APIRouter(prefix="/memoir", responses=FAILURES, dependencies=[Depends(HTTPBearer(auto_error=False))])
    _edits(router, service)
    _proposals(router, service)
    _looking(router, service)
    return router


def _edits(router: APIRouter, service: Service) -> None:
    @router.post("/edits", summary="Propose an edit", status_code=201, response_model=schemas.Proposed,
                 responses={202: _WAITS})  # fmt: skip
    async def propose(body: schemas.NewEdit, by: Proposer, response: Response, wait: Wait = _USUAL_WAIT,
                      once: Once = None) -> dict[str, Any]:  # fmt: skip
        fact = Fact(**body.model_dump())
        made, _ = await asyncio.to_thread(service.propose, fact, by, once)
        return await told(service, await service.ended(made.id, wait), response)

    @router.get("/edits", summary="Search the stored edits, the newest first", response_model=schemas.Edits)
    async def edits(_: Reader, q: Search, tag: Search, status: Annotated[list[schemas.EditStatus], Query(default_factory=list)], author: str | None = None, key: str | None = None,
                    since: str | None = None, until: str | None = None, before: Before = None, limit: Limit = 50) -> dict[str, Any]:  # fmt: skip
        return await asyncio.to_thread(found, service, before, limit, words=q, tags=tag, statuses=status, author=author, key=key,
                                       since=_time(since), until=_time(until))  # fmt: skip

    @router.get("/edits/{edit}", summary="A stored edit and its history", response_model=schemas.EditWithHistory)
    async def one(edit: Number, _: Reader) -> dict[str, Any]:
        return await asyncio.to_thread(with_history, service, edit)

    async def change(edit: Number, verb: Literal["disable", "enable", "restore"], by: Proposer, response: Response, reason: Why = "", once: Once = None) -> dict[str, Any]:  # fmt: skip
        return await changed(service, Change.of(verb, edit, reason), by, once, response)

    async def delete(
        edit: Number, by: Proposer, response: Response, reason: Why = "", once: Once = None
    ) -> dict[str, Any]:
        return await changed(service, Change.of("delete", edit, reason), by, once, response)

    answers: dict[str, Any] = {"response_model": schemas.Changed | schemas.Proposed, "responses": {202: _WAITS}}
    router.post("/edits/{edit}/{verb}", summary="Disable, enable or restore an edit, or propose it", **answers)(change)
    router.delete("/edits/{edit}", summary="Take an edit back, or propose it", **answers)(delete)


def _proposals(router: APIRouter, service: Service) -> None:
    @router.get("/proposals", summary="List the proposals, the newest first", response_model=schemas.Proposals)
    async def proposals(
        _: Reader,
        status: Annotated[list[schemas.ProposalStatus], Query(default_factory=list)],
        before: Before = None,
        limit: Limit = 50,
    ) -> dict[str, Any]:
        rows = await asyncio.to_thread(service.queue.newest, status, before, limit + 1)
        return {
            "proposals": [_fields(row) for row in rows[:limit]],
            "next": rows[limit - 1].id if len(rows) > limit else None,
        }

    @router.get("/proposals/{number}", summary="A proposal and what became of it", response_model=schemas.Proposed)
    async def one(number: Number, _: Reader, response: Response, wait: Wait = 0) -> dict[str, Any]:
        return await told(service, await service.ended(number, wait), response, asked=True)

    async def decide(number: Number, verdict: Literal["approve", "reject"], by: Proposer, response: Response, body: schemas.Reason | None = None,
                     wait: Wait = _USUAL_WAIT) -> dict[str, Any]:  # fmt: skip
        reason = "" if body is None else body.reason
        await asyncio.to_thread(service.decide, number, by, verdict == "approve", reason)
        return await told(service, await service.ended(number, wait), response)

    router.post("/proposals/{number}/{verdict}", summary="Approve or reject a proposal", response_model=schemas.Proposed,
                responses={202: {"model": schemas.Proposed, "description": "approved; it waits for its turn"}})(decide)  # fmt: skip


def _looking(router: APIRouter, service: Service) -> None:
    @router.post(
        "/preview", summary="What edits and changes would do; nothing is kept", response_model=schemas.Previewed
    )
    async def preview(body: schemas.PreviewOf, _: Proposer) -> dict[str, Any]:
        wanted: list[Fact | Change] = [Fact(**edit.model_dump()).checked() for edit in body.edits]
        wanted += [Change.of(change.verb, change.edit) for change in body.changes]
        if body.proposal is not None:
            wanted.append((await asyncio.to_thread(service.queue.get, body.proposal)).wish)
        facts = [one for one in wanted if isinstance(one, Fact)]
        changes = [one for one in wanted if isinstance(one, Change)]
        if not facts and not changes:
            raise Refused(422, "nothing to preview: give edits, a proposal or changes")
        wishes = trying.Wishes(facts, changes, body.questions, body.stored, body.max_new_tokens)
        return await trying.try_out(service, wishes)

    @router.post("/rollback", summary="Give every edit the status that it had at a point, or propose it; first a preview",
                 response_model=schemas.RolledBack | schemas.Proposed, responses={202: _WAITS})  # fmt: skip
    async def rollback(body: schemas.Rollback, by: Proposer, response: Response, once: Once = None) -> dict[str, Any]:
        done = await trying.roll_back(service, str(body.to), by, body.confirm, body.empty, body.reason, once)
        if isinstance(done, Proposal):
            return await told(service, done, response)
        return {**done, **(await liveness(service) if done["done"] else {})}

    @router.get("/route", summary="Which edit a prompt reads, and why", response_model=schemas.Routed)
    async def route(prompt: Annotated[str, Query(min_length=1, max_length=20_000)], _: Reader, top: Annotated[int, Query(ge=1, le=20)] = 5,
                    answers: bool = False) -> dict[str, Any]:  # fmt: skip
        return await trying.route(service, prompt, top, answers)

    @router.get("/status", summary="How the service is: the queue, and what vLLM serves")
    async def status(_: Reader) -> dict[str, Any]:
        return await asyncio.to_thread(lambda: service.status)


# ---- shared with the page ---


def found(service: Service, before: int | None, limit: int, **wanted: Any) -> dict[str, Any]:
    """A page of stored edits. Raises Refused for a time that is none."""
    try:
        rows, total = service.shelf.page(before, limit + 1, **wanted)
    except ValueError as error:
        raise Refused(422, str(error)) from None
    return {"edits": rows[:limit], "total": total, "next": rows[limit - 1]["id"] if len(rows) > limit else None}


def with_history(service: Service, edit: int) -> dict[str, Any]:
    """A stored edit with what happened to it, and who did it where it was done through the service."""
    row, acts = service.row(edit), {act.seq: act for act in service.queue.acts()}
    review, events = row["metadata"].get(REVIEW), service.shelf.events(edit)
    history = []
    for event in events:
        act = acts.get(event.seq)
        asked = None if act is None or act.proposal is None else service.queue.get(act.proposal)
        history.append({
            **{name: getattr(event, name) for name in ("at", "what", "seq", "by")}, "who": act and act.who, "reason": act.reason if act else "",
            "proposal": asked and asked.id, "proposed_by": asked and asked.proposed_by})  # fmt: skip
    if events and isinstance(review, dict) and isinstance(review.get("approved_by"), str):
        history[0]["who"] = review["approved_by"]
    return {**row, "history": history}


async def changed(service: Service, change: Change, by: Caller, once: str | None, response: Response) -> dict[str, Any]:
    """Do something with a stored edit and say whether it is live, or, where somebody else has to approve, propose it."""
    if service.may_decide(by):
        return {"edit": await service.change(change, by), **await liveness(service)}
    return await told(service, await asyncio.to_thread(service.propose_change, change, by, once), response)


async def liveness(service: Service, seq: int | None = None) -> dict[str, Any]:
    """Whether vLLM serves what is stored, and if not, why."""
    live = await service.is_live(seq)
    if live is not False or service.live is None:
        return {"live": live, "note": ""}
    return {
        "live": False,
        "note": f"stored, but vLLM does not serve it yet and is asked again until it does ({service.live.trouble})",
    }


async def told(service: Service, proposal: Proposal, response: Response, asked: bool = False) -> dict[str, Any]:
    """A proposal as an answer to whoever proposed or decided it, or, if `asked`, to whoever asks what became of it.

    Raises:
        Refused: it failed, and its client waited for it.
    """
    response.headers["location"] = f"/memoir/proposals/{proposal.id}"
    found = _fields(proposal)
    if proposal.is_open and not asked:
        response.status_code = 202
    if proposal.status == WAITING:
        return {**found, "note": f"it waits for approval: POST /memoir/proposals/{proposal.id}/approve"}
    if proposal.is_open:
        return {**found, "note": f"it waits for its turn: GET /memoir/proposals/{proposal.id}?wait=60"}
    if proposal.status == FAILED and not asked:
        raise Refused((proposal.result or {}).get("code", 422), f"proposal {proposal.id} failed: {proposal.reason}")
    if proposal.status == MADE:
        return {**found, **await liveness(service, seq_of(service, proposal))}
    return found


def seq_of(service: Service, proposal: Proposal) -> int:
    """The store's record of what was made of a proposal."""
    if isinstance(proposal.wish, Change):
        return int((proposal.result or {})["seq"])
    assert proposal.edit is not None, "every edit that was made has a number"
    return int(service.row(proposal.edit)["seq"])


def _fields(proposal: Proposal) -> dict[str, Any]:
    """A proposal as the schema shows it."""
    wish, found = proposal.wish, {name: value for name, value in vars(proposal).items() if name != "wish"}
    if isinstance(wish, Fact):
        return {**found, "kind": wish.kind, "fact": vars(wish), "change": None}
    edits = [{"edit": edit, "becomes": status} for edit, status in wish.edits]
    change = {"change": wish.change, "edits": edits, "to": wish.to, "reason": wish.reason}
    return {**found, "kind": wish.kind, "fact": None, "change": change}


def _time(text: str | None) -> str | None:
    """A time of a query, in which an unescaped + has become a blank."""
    return text.replace(" ", "+") if text and "T" in text else text
