"""The editing service without HTTP: proposals, approval, changes, and what of it is live."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import quoted
from ...journal.edit_record import EditResult
from ...model import MemoirModel
from ...store import Store
from ...text.answers import begins_with, equals
from .changes import Change, carry_out, check_doable, check_verb
from .facts import REVIEW, Fact
from .feed import Feed
from .keys import Caller
from .live import Live
from .queue import FAILED, MADE, QUEUED, WAITING, Proposal, Queue
from .refused import Refused, refusal
from .shelf import Shelf
from .worker import Worker

_LOG = logging.getLogger("memoir_fast.editing")
_LIVE_WITHIN = 5.0  # seconds for which an answer waits for vLLM


@dataclass(frozen=True)
class Rules:
    """What the operator decides.

    Attributes:
        review: every edit, and every change of stored ones, waits for approval, by another key than the one that proposed it.
        most_open: how many proposals may wait or be queued.
    """

    review: bool = False
    most_open: int = 1000


class Service:
    """Takes requests from many, and gives them to the worker one at a time.

    Args:
        model: with a store that is open for writing; nobody else may use it from now on.
        queue: the queue of this store. live: vLLM's server, None where there is none. rules: the operator's.

    Raises:
        ValueError: the model has no store, or it is open for reading only.
    """

    def __init__(self, model: MemoirModel, queue: Queue, live: Live | None = None, rules: Rules | None = None):
        store = model.store
        if store is None or not store.is_writer:
            raise ValueError("model: the editing service needs one whose store is open for writing")
        self.model, self.queue, self.live, self.rules = model, queue, live, rules or Rules()
        self.store: Store = store
        queue.forget_after(store.state.seq)
        self.feed = Feed(store)
        self.shelf = Shelf(store, self.feed.add)
        self._ends: dict[int, list[Future[Proposal]]] = {}
        self._lock = threading.Lock()
        self.worker = Worker(self._step)

    def start(self) -> None:
        """Begin to work; vLLM is told of what the store holds, since it may have been made from less."""
        if self.live is not None:
            self.live.tell(self.shelf.seq)
        self.worker.start()

    def close(self) -> None:
        """Finish what runs, and release the files. What is queued is made after the next start."""
        self.worker.close()
        if self.live is not None:
            self.live.close()
        self.queue.close()
        self.model.close()

    # ---- proposals -----------------------------------------------------------------------------------------------

    def may_decide(self, by: Caller) -> bool:
        """Whether what a caller asks for is done at once, because nobody else has to approve it."""
        return by.may("approve") and not self.rules.review

    def propose(self, wish: Fact | Change, by: Caller, request: str | None) -> tuple[Proposal, bool]:
        """Take in an edit or a change: queued where the caller may decide, otherwise waiting. Returns it, and whether it is new.

        Raises:
            Refused: it cannot be stored, or see `Queue.add`.
        """
        made, new = self.queue.add(wish.checked(), by.name, self.may_decide(by), request, self.rules.most_open)
        if new:
            _LOG.info("proposal %d (%s) by %s is %s", made.id, wish.kind, by.name, made.status)
            self.worker.wake()
        return made, new

    def decide(self, number: int, by: Caller, approved: bool, reason: str = "") -> Proposal:
        """Approve or reject a proposal that waits. Whoever proposed may take it back, but, under review, not approve it. Raises Refused."""
        known = self.queue.get(number)
        own = known.proposed_by == by.name
        if not by.may("approve") and not (own and not approved):
            raise Refused(
                403, f"the role of {by.name} is {by.role}: only approve may decide about the proposals of others"
            )
        if approved and own and self.rules.review:
            raise Refused(403, "this service asks for a review: somebody else's key must approve what yours proposed")
        decided = self.queue.decide(number, by.name, approved, reason)
        _LOG.info("proposal %d is %s by %s", number, decided.status, by.name)
        self.worker.wake()
        if not decided.is_open:
            self._ended(decided)
        return decided

    async def ended(self, number: int, seconds: float) -> Proposal:
        """A proposal once it is no longer queued, or as it is after some seconds."""
        done: Future[Proposal] = Future()
        with self._lock:
            self._ends.setdefault(number, []).append(done)
        known = await asyncio.to_thread(self.queue.get, number)  # it may have ended before this began to wait
        if known.status == QUEUED and seconds > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                return await asyncio.wait_for(asyncio.wrap_future(done), seconds)
            known = await asyncio.to_thread(self.queue.get, number)
        with self._lock:
            self._ends[number] = [one for one in self._ends.get(number, []) if one is not done]
            if not self._ends[number]:
                del self._ends[number]
        return known

    def _ended(self, proposal: Proposal) -> None:
        with self._lock:
            waiting = self._ends.pop(proposal.id, [])
        for done in waiting:
            with contextlib.suppress(InvalidStateError):  # whoever waited has left
                done.set_result(proposal)

    # ---- the worker's part ---------------------------------------------------------------------------------------

    def _step(self) -> bool:
        """Make the next edit of the queue, or its next change. Raises StoreError where the store cannot be written: it stays in the queue."""
        proposal = self.queue.next()
        if proposal is None:
            return False
        try:
            wish = proposal.wish
            done = self._carry_out(proposal, wish) if isinstance(wish, Change) else self._make(proposal, wish)
        except Exception as error:
            self._stored()
            told = refusal(error)
            if told is not None and told.status == 503:
                raise
            if told is None:
                _LOG.exception("proposal %d failed by a bug of memoir_fast", proposal.id)
            reason = told.message if told is not None else "a bug of memoir_fast; the service's log tells more"
            done = self._ended_anyhow(proposal, {"code": 500 if told is None else told.status}, reason)
        _LOG.info("proposal %d is %s%s", done.id, done.status, "" if done.edit is None else f" as edit {done.edit}")
        self._ended(done)
        return True

    def _ended_anyhow(self, proposal: Proposal, failed: dict[str, Any], reason: str) -> Proposal:
        """Say what became of a proposal in whose course something failed: that may have come after it was done."""
        act = self.queue.done(proposal.id, self.store.state.seq)
        if act is not None and isinstance(proposal.wish, Change):
            return self.queue.finish(proposal.id, proposal.wish.edit, {"seq": act.seq}, reason)
        stored = self.shelf.made_of(self._name(proposal))
        return self.queue.finish(proposal.id, stored, None if stored is not None else failed, reason, failed=stored is None)  # fmt: skip

    def _carry_out(self, proposal: Proposal, change: Change) -> Proposal:
        """Do an accepted change, unless it was done before the process was killed."""
        act = self.queue.done(proposal.id, self.store.state.seq)
        if act is None:
            check_doable(change, self.store)
            self.act(
                proposal.decided_by or proposal.proposed_by, change, lambda: carry_out(change, self.model), proposal.id
            )
        self._stored()
        return self.queue.finish(proposal.id, change.edit, {"seq": self.store.state.seq if act is None else act.seq})

    def _make(self, proposal: Proposal, fact: Fact) -> Proposal:
        """Make an accepted edit, unless it was made before the process was killed. One that neither converged nor answers is taken back."""
        made = self.shelf.made_of(self._name(proposal))
        result = (
            self._edited(proposal, fact)
            if made is None
            else _told_by(self.store.state.row(made), self.model.config.stop_loss)
        )
        if result.existing:
            note = "the same fact is stored under this key already; nothing was written"
            return self.queue.finish(proposal.id, result.id, asdict(result), note)
        if result.converged:
            self._stored()  # live before its answers are looked at
        [result] = self.model.verified([fact.request], [result])
        if not result.converged and not self._answers(fact, result):
            if self.store.state.statuses[result.id] == "active":
                self.model.delete(result.id)
            self._stored()
            reason = (f"it did not converge (loss {result.loss:.3f}, wanted at most {self.model.config.stop_loss}) and is answered {_wrong(result)}; "
                      f"edit {result.id} was taken back. Shorten the target, word the prompt otherwise, or start the service with --retries 1")  # fmt: skip
            return self.queue.finish(proposal.id, result.id, {"code": 422}, reason, failed=True)
        self._stored()
        note = "" if result.took else f"not every answer is the target: {_wrong(result)}"
        return self.queue.finish(proposal.id, result.id, asdict(result), note)

    def _edited(self, proposal: Proposal, fact: Fact) -> EditResult:
        """Teach a fact; its metadata tells who proposed and who approved it."""
        review = {"proposal": self._name(proposal), "proposed_by": proposal.proposed_by, "proposed_at": proposal.proposed_at,
                  "approved_by": proposal.decided_by, "approved_at": proposal.decided_at}  # fmt: skip
        return self.model.edit_many([fact.request], author=fact.author or proposal.proposed_by, tags=fact.tags,
                                    metadata={**fact.metadata, REVIEW: review})[0]  # fmt: skip

    def _answers(self, fact: Fact, result: EditResult) -> bool:
        """Whether the prompt itself is answered by the target now."""
        right = begins_with if self.model.config.end == "none" else equals
        return right(result.answers[fact.prompt.strip()], fact.target)

    def _name(self, proposal: Proposal) -> str:
        """What the metadata of its edit calls a proposal."""
        return f"{self.queue.name}:{proposal.id}"

    def _stored(self) -> Future[bool] | None:
        """After each change of the store: list it, and have vLLM take it up."""
        self.shelf.update()
        return None if self.live is None else self.live.tell(self.shelf.seq)

    # ---- stored edits --------------------------------------------------------------------------------------------

    def row(self, edit: int) -> dict[str, Any]:
        """A stored edit. Raises Refused where there is none."""
        found = self.shelf.row(edit)
        if found is None:
            raise Refused(404, f"there is no edit {edit}: GET /memoir/edits lists them")
        return found

    async def change(self, change: Change, by: Caller) -> dict[str, Any]:
        """Do something with a stored edit at once; returns its row. Raises Refused where there is none, or its status is another."""
        edit = int(change.edits[0][0])
        self.row(edit)

        def work() -> None:
            check_doable(change, self.store)
            self.act(by.name, change, lambda: carry_out(change, self.model))

        await self.run(work)
        return self.row(edit)

    def propose_change(self, change: Change, by: Caller, request: str | None) -> Proposal:
        """Take in what is to be done with a stored edit. Raises Refused where its status is another, or see `Queue.add`."""
        edit = int(change.edits[0][0])
        status = self.row(edit)["status"]
        if self.queue.known(change, by.name, request) is None:
            check_verb(change.change, edit, status)
        return self.propose(change, by, request)[0]

    def act(self, who: str, change: Change, do: Callable[[], Any], proposal: int | None = None) -> None:
        """In the worker: change the store, and keep who did it; both or neither. proposal: the number of the one that asked for it."""
        edits = [edit for edit, _ in change.edits]
        act = self.queue.note(who, change.name, edits, self.store.state.seq + 1, proposal, change.reason)
        try:
            do()
        except BaseException:
            self.queue.forget(act)
            raise
        finally:
            self._stored()
        _LOG.info("%s by %s: edits %s", change.name, who, edits[:20])

    async def run(self, function: Callable[[], Any]) -> Any:
        """Run something in the worker. Raises Refused where it cannot be done."""
        try:
            return await asyncio.wrap_future(self.worker.call(function))
        except Exception as error:
            told = refusal(error)
            if told is None:
                raise
            raise told from error

    async def is_live(self, seq: int | None = None) -> bool | None:
        """Whether vLLM serves the store's records up to `seq` (all, if None); waits a little for it. None where there is no vLLM."""
        if self.live is None:
            return None
        done = self.live.tell(self.shelf.seq if seq is None else seq)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(done), _LIVE_WITHIN)
        except asyncio.TimeoutError:
            return False

    @property
    def status(self) -> dict[str, Any]:
        """How the service is."""
        live = self.live
        return {
            "seq": self.shelf.seq,
            "waiting": self.queue.count((WAITING,)),
            "queued": self.queue.count((QUEUED,)),
            "made": self.queue.count((MADE,)),
            "failed": self.queue.count((FAILED,)),
            "trouble": self.worker.trouble,
            "review": self.rules.review,
            "vllm": None
            if live is None
            else {"seq": live.served, "live": live.served >= self.shelf.seq, "trouble": live.trouble},
        }


def _told_by(row: dict[str, Any], stop_loss: float) -> EditResult:
    """What making an edit told, as far as its row tells it again."""
    kept = {name: row[name] for name in ("id", "loss", "steps", "seconds", "nearest", "overlap", "supersedes")}
    return EditResult(**kept, converged=row["loss"] <= stop_loss)


def _wrong(result: EditResult) -> str:
    return "; ".join(f"{quoted(text)}: {quoted(answer)}" for text, answer in list(result.answers.items())[:3])
