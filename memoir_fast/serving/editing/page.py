"""The reviewers' page: plain forms, rendered here, usable by keyboard and without scripts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from importlib import resources
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from . import api, trying
from .api import Before, Number
from .changes import VERBS, Change
from .facts import Fact
from .forms import fact_of, read_form, read_own_form
from .gate import PAGE, Gate
from .keys import Keys
from .queue import MADE, QUEUED, STATUSES, WAITING, Proposal
from .refused import Refused
from .rendering import rendered
from .service import Service
from .sessions import COOKIE, LASTS, Session, Sessions

_AT_ONCE = 25  # rows of a list
_LONGEST_REASON = 2_000  # characters
_WAIT = 60.0  # seconds for which an approval waits for its edit
_EDIT_STATUSES = ("active", "disabled", "superseded", "deleted")
Text = Annotated[str, Query(max_length=2_000)]


class LoginNeeded(Exception):
    """Nobody is logged in."""


def session_of(request: Request) -> Session:
    """The session of a request. Raises LoginNeeded without one."""
    found: Session | None = request.app.state.sessions.find(request.headers.get("cookie", ""))
    if found is None:
        raise LoginNeeded
    return found


Logged = Annotated[Session, Depends(session_of)]


def pages(service: Service, keys: Keys, sessions: Sessions) -> APIRouter:
    """The page's routes; none is part of the OpenAPI description."""
    router = APIRouter(prefix=PAGE, include_in_schema=False)
    _logging_in(router, keys, sessions)
    _edits(router, service)
    _proposals(router, service)
    _proposing(router, service)
    _looking(router, service)
    return router


def login_needed(request: Request, error: Exception) -> Response:
    """What who is not logged in gets to see."""
    assert isinstance(error, LoginNeeded)
    return rendered("login", 200 if request.url.path == PAGE else 401, said="")


def refused_page(request: Request, refused: Refused) -> Response:
    """A page that says why something was not done."""
    session = request.app.state.sessions.find(request.headers.get("cookie", ""))
    return rendered("refused", refused.status, session=session, refused=refused, here="")


def _logging_in(router: APIRouter, keys: Keys, sessions: Sessions) -> None:
    @router.get("/page/style.css")
    async def style() -> Response:
        return Response(
            resources.files(__package__ or "").joinpath("templates/style.css").read_bytes(), media_type="text/css"
        )

    @router.post("/page/login")
    async def login(request: Request) -> Response:
        form = await read_form(request)
        caller = keys.find(form.get("key", "").strip())
        if caller is None:
            gate: Gate = request.scope["state"]["gate"]
            refused = gate.wrong(request.client.host if request.client else "unknown")
            said = "This key is not known." if refused.status == 401 else refused.message
            return rendered("login", refused.status, said=said)
        found = RedirectResponse(PAGE, 303)
        found.set_cookie(COOKIE, sessions.begin(caller), max_age=LASTS, path=PAGE, httponly=True, samesite="strict", secure=request.url.scheme == "https")  # fmt: skip
        return found

    @router.post("/page/logout")
    async def logout(request: Request, session: Logged) -> Response:
        await read_own_form(request, session)
        sessions.end(request.headers.get("cookie", ""))
        found = RedirectResponse(PAGE, 303)
        found.delete_cookie(COOKIE, path=PAGE, httponly=True, samesite="strict")
        return found


def _edits(router: APIRouter, service: Service) -> None:
    @router.get("")
    async def edits(
        session: Logged, q: Text = "", tag: Text = "", status: Text = "", before: Before = None
    ) -> Response:
        wanted = {"words": q.split(), "tags": [tag] if tag else [], "statuses": [status] if status else []}
        found = await asyncio.to_thread(api.found, service, before, _AT_ONCE, **wanted)
        waiting = await asyncio.to_thread(service.queue.count, (WAITING,))
        return rendered("edits", session=session, here="edits", q=q, tag=tag, status=status, statuses=_EDIT_STATUSES, found=found, waiting=waiting,
                        before=before)  # fmt: skip

    @router.get("/page/edits/{edit}")
    async def one(edit: Number, session: Logged) -> Response:
        row = await asyncio.to_thread(api.with_history, service, edit)
        verbs = [verb for verb, statuses in VERBS.items() if row["status"] in statuses]
        waiting = await asyncio.to_thread(service.queue.newest, (WAITING, QUEUED), None, service.rules.most_open)
        return rendered("edit", session=session, here="edits", row=row, verbs=verbs if session.caller.may("propose") else [], live=_live(service, row["seq"]),
                        decides=service.may_decide(session.caller), waiting=[one for one in waiting if _is_about(one, edit)])  # fmt: skip

    @router.post("/page/edits/{edit}/{verb}")
    async def change(
        edit: Number, verb: Literal["disable", "enable", "restore", "delete"], request: Request, session: Logged
    ) -> Response:
        form = await read_own_form(request, session)
        _needs(session, "propose")
        asked = Change.of(verb, edit, form.get("reason", "").strip()[:_LONGEST_REASON])
        if not service.may_decide(session.caller):
            made = await asyncio.to_thread(service.propose_change, asked, session.caller, None)
            return _back(session, f"/page/proposals/{made.id}", await _told(service, made))
        row, live = await service.change(asked, session.caller), await api.liveness(service)
        return _back(session, f"/page/edits/{edit}", f"Edit {edit} is {row['status']} now{_and_live(live)}.")


def _proposals(router: APIRouter, service: Service) -> None:
    @router.get("/page/proposals")
    async def proposals(session: Logged, status: Text = WAITING, before: Before = None) -> Response:
        rows = await asyncio.to_thread(service.queue.newest, [status] if status else [], before, _AT_ONCE + 1)
        return rendered("proposals", session=session, here="proposals", status=status, statuses=STATUSES,
                        rows=[(row, _named(service, row)) for row in rows[:_AT_ONCE]],
                        next=rows[_AT_ONCE - 1].id if len(rows) > _AT_ONCE else None)  # fmt: skip

    async def shown(number: int, session: Session, preview: Any = None, questions: str = "") -> Response:
        proposal = await asyncio.to_thread(service.queue.get, number)
        wish = proposal.wish
        changes = await asyncio.to_thread(trying.shown, service, wish.edits) if isinstance(wish, Change) else None
        return rendered("proposal", session=session, here="proposals", proposal=proposal, preview=preview, questions=questions, changes=changes,
                        may_approve=_may_approve(service, proposal, session))  # fmt: skip

    @router.get("/page/proposals/{number}")
    async def one(number: Number, session: Logged) -> Response:
        return await shown(number, session)

    @router.post("/page/proposals/{number}/preview")
    async def preview(number: Number, request: Request, session: Logged) -> Response:
        form = await read_own_form(request, session)
        _needs(session, "propose")
        wish = (await asyncio.to_thread(service.queue.get, number)).wish
        return await shown(number, session, await _tried(service, wish, form), form.get("questions", ""))

    @router.post("/page/proposals/{number}/{verdict}")
    async def decide(
        number: Number, verdict: Literal["approve", "reject"], request: Request, session: Logged
    ) -> Response:
        form = await read_own_form(request, session)
        await asyncio.to_thread(service.decide, number, session.caller, verdict == "approve", form.get("reason", ""))
        done = await service.ended(number, _WAIT)
        return _back(session, f"/page/proposals/{number}", await _told(service, done))


def _proposing(router: APIRouter, service: Service) -> None:
    @router.get("/page/new")
    async def new(session: Logged) -> Response:
        return rendered("new", session=session, here="new", form={}, preview=None)

    @router.post("/page/new")
    async def propose(request: Request, session: Logged) -> Response:
        form = await read_own_form(request, session)
        _needs(session, "propose")
        fact = fact_of(form)
        if form.get("do") == "preview":
            return rendered("new", session=session, here="new", form=form, preview=await _tried(service, fact, form))
        made, _ = await asyncio.to_thread(service.propose, fact, session.caller, None)
        return _back(session, f"/page/proposals/{made.id}", await _told(service, await service.ended(made.id, _WAIT)))


def _looking(router: APIRouter, service: Service) -> None:
    @router.get("/page/try")
    async def ask(session: Logged, question: Text = "") -> Response:
        found = await trying.route(service, question, 5, answers=True) if question.strip() else None
        return rendered("try", session=session, here="try", question=question, found=found)

    @router.get("/page/rollback")
    async def rollback(session: Logged) -> Response:
        _needs(session, "propose")
        return rendered(
            "rollback", session=session, here="rollback", to="", shown=None, decides=service.may_decide(session.caller)
        )

    @router.post("/page/rollback")
    async def back(request: Request, session: Logged) -> Response:
        form = await read_own_form(request, session)
        _needs(session, "propose")
        to, reason = form.get("to", "").strip(), form.get("reason", "").strip()[:_LONGEST_REASON]
        done = await trying.roll_back(
            service, to, session.caller, form.get("confirm"), form.get("empty") == "yes", reason
        )
        if isinstance(done, Proposal):
            return _back(session, f"/page/proposals/{done.id}", await _told(service, done))
        if not done["done"]:
            return rendered(
                "rollback",
                session=session,
                here="rollback",
                to=to,
                shown=done,
                decides=service.may_decide(session.caller),
            )
        told = await api.liveness(service)
        return _back(session, "", f"Rolled back to {to}: {len(done['changes'])} edits changed{_and_live(told)}.")


# ---- parts ---


def _needs(session: Session, role: str) -> None:
    if not session.caller.may(role):
        raise Refused(403, f"the role of {session.caller.name} is {session.caller.role}, and this needs {role}")


def _may_approve(service: Service, proposal: Proposal, session: Session) -> bool:
    own = proposal.proposed_by == session.caller.name
    return session.caller.may("approve") and not (own and service.rules.review)


async def _tried(service: Service, wish: Fact | Change, form: dict[str, str]) -> dict[str, Any]:
    more = [line.strip() for line in form.get("questions", "").split("\n") if line.strip()]
    facts, changes = ([wish], []) if isinstance(wish, Fact) else ([], [wish])
    asked = trying.Wishes(facts, changes)
    return await trying.try_out(
        service, replace(asked, questions=[*trying.own_questions(service, asked), *more][: trying.ASKED])
    )


def _is_about(proposal: Proposal, edit: int) -> bool:
    return isinstance(proposal.wish, Change) and any(one == edit for one, _ in proposal.wish.edits)


def _named(service: Service, proposal: Proposal) -> dict[str, str]:
    """What a list shows of a proposal."""
    wish = proposal.wish
    if isinstance(wish, Fact):
        return {"what": "new edit", "prompt": wish.prompt, "target": wish.target}
    if wish.edit is None:
        return {"what": f"{wish.name} ({len(wish.edits)} edits)", "prompt": "", "target": ""}
    [row] = trying.shown(service, wish.edits)
    return {"what": f"{wish.name} edit {wish.edit}", "prompt": row["prompt"], "target": row["target"]}


def _live(service: Service, seq: int) -> bool | None:
    return None if service.live is None else service.live.served >= seq


async def _told(service: Service, proposal: Proposal) -> str:
    """What became of a proposal, in a sentence."""
    name = f"Proposal {proposal.id}"
    if proposal.status == WAITING:
        return f"{name} waits for approval."
    if proposal.is_open:
        return f"{name} is approved and waits for its turn."
    if proposal.status == MADE:
        told = await api.liveness(service, api.seq_of(service, proposal))
        how = f"made, as edit {proposal.edit}" if isinstance(proposal.wish, Fact) else "done"
        return f"{name} is {how}{_and_live(told)}. {proposal.reason}"
    return f"{name} is {proposal.status}. {proposal.reason}"


def _and_live(told: dict[str, Any]) -> str:
    return {True: " and live", False: f", but not live: {told['note']}", None: ""}[told["live"]]


def _back(session: Session, path: str, said: str) -> Response:
    """To another page, which says what was done."""
    session.said.append(said)
    return RedirectResponse(PAGE + path, 303)
