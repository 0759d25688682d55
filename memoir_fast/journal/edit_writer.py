"""Makes edits: optimises them, works out which ones they replace, and hands them to the journal."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..base.json_text import parse, whole
from ..config import MemoirConfig
from ..defaults import NEARLY_FULL, room_of
from ..editing.editor import Editor, Finished
from ..editing.request import EditRequest
from ..errors import ConflictError, quoted
from ..memory.selection import check_tags
from ..memory.update import Update
from ..reading.matching.matcher import Wording
from ..reading.matching.prompt_codes import PromptCode
from ..reading.probe import read_prompts
from .edit_record import EditResult
from .journal import Journal, now
from .lists import folded
from .record import dtype_of

# The score from which a stored edit is reported as similar to a new one.
_RESEMBLES = 0.1
_DEEPEST = 100  # levels of nesting in metadata


@dataclass
class _Planned:
    """A request in progress: what its wordings say (empty with router="mask"), which edits it replaces and which it
    resembles."""

    request: EditRequest
    read: list[tuple[Wording, PromptCode]]
    replaced: list[int] = field(default_factory=list)
    similar: list[int] = field(default_factory=list)


@dataclass
class _Pending:
    """The edits of one batch that are optimised but not yet kept.

    Attributes:
        first: the id of the first of them.
        plans, updates: one per edit, in order.
        finished: one per group that was optimised together.
        taken: ids of the edits that they replace, stored ones and earlier ones of the batch.
    """

    first: int
    plans: list[_Planned] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)

    def plan_of(self, edit: int) -> _Planned:
        """The plan that made an edit of this batch."""
        return self.plans[edit - self.first]

    def standing(self) -> list[int]:
        """The ids of those that no later edit of the batch replaces."""
        return [edit for edit in range(self.first, self.first + len(self.plans)) if edit not in self.taken]


class EditWriter:
    """Turns requests into kept edits, one batch at a time, holding the journal's `writing` lock.

    Two prompts ask the same if their texts are equal up to case and blanks, or if the matcher is sure of it in both
    directions and no number, name or day differs. The overlap of masks plays no part.

    Args:
        editor: optimises the edits.
        journal: keeps them.
    """

    def __init__(self, editor: Editor, journal: Journal):
        self.editor, self.journal = editor, journal

    def make(
        self, requests: list[EditRequest], config: MemoirConfig, note: dict[str, Any], batch_size: int
    ) -> list[EditResult]:
        """Make edits in order, `batch_size` of them together; arguments, result and errors as `MemoirModel.edit_many`.

        Args:
            note: "author", "tags" and "metadata", see `note_of`.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be an int >= 1, got {batch_size!r}")
        with self.journal.writing:  # looked up again under it: a rehearsal has a journal of its own, with the same lock
            self.journal.check_writable()
        results: list[EditResult] = []
        for start in range(0, len(requests), batch_size):
            with self.journal.writing:
                self.journal.check_writable()
                before = len(self.editor.memory)
                planned = self._read(requests[start : start + batch_size], config)
                results += self._batch(planned, config, note)
                self._warn_of_filling(before, config)
        return results

    def _warn_of_filling(self, before: int, config: MemoirConfig) -> None:
        """Warn when a memory whose edits share one page has become nearly full or full. before: how many edits it had."""
        memory = self.editor.memory
        room = room_of(memory.in_features, config.masks, memory.page_edits)
        for share in (1.0, NEARLY_FULL):
            if room and before < share * room <= len(memory):
                warnings.warn(
                    f"this memory is {100 * len(memory) // room} % full: its {len(memory)} edits share one page, which has room for about {room}; with "
                    "more, early ones fade. A memory with pages (leave page_edits open) does not fill: make the edits again in one",
                    stacklevel=4,
                )
                return

    def _read(self, requests: list[EditRequest], config: MemoirConfig) -> list[_Planned]:
        """What the requests' wordings say. Only the layers up to the early tap run, once for all of them."""
        editor, words = self.editor, self.editor.router.words
        if words is None:
            return [_Planned(request, []) for request in requests]
        texts = [editor.encoder.prompt(text) for request in requests for text in request.wordings]
        read = iter(read_prompts(editor.model, editor.router, words.keys.matcher, texts, config.batch_size))
        return [_Planned(request, [next(read) for _ in request.wordings]) for request in requests]

    def _batch(self, planned: list[_Planned], config: MemoirConfig, note: dict[str, Any]) -> list[EditResult]:
        """Make the edits of one batch, all or none: they are optimised in groups and kept together at the end."""
        pending = _Pending(self.journal.next_id)
        existing: list[int | None] = []  # per request, the edit that already says the same
        group: list[_Planned] = []
        for plan in planned:
            if any(self._meets(plan, before) for before in group):  # `before` must be optimised first
                self._optimise(group, pending, config)
                group = []
            existing.append(self._known(plan, pending))
            if existing[-1] is None:
                group.append(plan)
        self._optimise(group, pending, config)
        made = iter(self._keep(pending, note, config) if pending.plans else [])
        return [next(made) if old is None else self._existing(old) for old in existing]

    def _known(self, plan: _Planned, pending: _Pending) -> int | None:
        """The stored or pending edit that says the same under the same key. If there is none, set which edits the
        request replaces and resembles, and return None."""
        same, key = self._place(plan), plan.request.key
        met = [edit for edit in pending.standing() if self._meets(plan, pending.plan_of(edit))]
        named = next((edit for edit in met if key and pending.plan_of(edit).request.key == key), None)
        old = named if named is not None else self.journal.named(key)
        if old is not None and old in pending.taken:
            old = None
        if old is not None and self._says_the_same(pending, old, plan.request):
            return old
        stored = [edit for edit in same if edit != old and edit not in pending.taken]
        found = self.journal.conflicts(stored, plan.request.target)
        others = [edit for edit in met if edit != old]
        if others and self.journal.conflict == "reject":
            raise ConflictError(
                f"the batch contradicts itself: {quoted(plan.request.prompt)} is answered by {quoted(plan.request.target)} and by "
                f"{quoted(pending.plan_of(others[0]).request.target)}, and the conflict policy is 'reject'; nothing of it is made"
            )
        found += others if self.journal.conflict == "supersede" else []
        plan.replaced = sorted({*found, *([] if old is None else [old])})
        plan.similar = [*met, *plan.similar][:3]
        pending.taken.update(plan.replaced)
        return None

    def _optimise(self, group: list[_Planned], pending: _Pending, config: MemoirConfig) -> None:
        """Optimise some requests together, as if the pending ones were already in the memory."""
        if group:
            stored = [edit for edit in sorted(pending.taken) if edit < pending.first]
            given = [pending.updates[edit - pending.first] for edit in pending.standing()]
            without = [self.journal.state.update_of(edit) for edit in stored]
            scale = pending.updates[-1].scale if pending.updates else None
            requests = [plan.request for plan in group]
            first = pending.first + len(pending.plans)
            finished = self.editor.optimise(requests, config, without, given, scale, first)
            for attempt in range(1, config.retries + 1):
                if max(finished.final) <= config.stop_loss:
                    break
                longer = config.updated(steps=config.steps * 2**attempt)
                finished = self.editor.optimise(requests, longer, without, given, scale, first)
            dtype = dtype_of(self.journal.record_dtype)
            pending.updates += [update.compact().rounded(dtype) for update in finished.updates]
            pending.plans += group
            pending.finished.append(finished)

    def _place(self, plan: _Planned) -> list[int]:
        """The active edits that ask the same, ascending; also sets which edits the request resembles."""
        same, words = set(self.journal.same_text(plan.request.prompt)), self.editor.router.words
        if words is not None:
            with self.journal.memory.lock:
                code = plan.read[0][1]
                ranked = words.keys.ranked(code)
                plan.similar = [match.edit for match in ranked[:3] if match.score >= _RESEMBLES]
                same.update(match.edit for match in ranked[:8] if words.keys.asks_the_same(code, match))
        return sorted(same)

    def _meets(self, plan: _Planned, before: _Planned) -> bool:
        """Whether two requests of one batch are about the same fact: the same key, or one question with two targets."""
        one, other = plan.request, before.request
        if one.key and one.key == other.key:
            return True
        if one.target.strip() == other.target.strip():
            return False
        words = self.editor.router.words
        if folded(one.prompt) == folded(other.prompt):
            return True
        return words is not None and words.keys.same_question(plan.read[0][1], before.read[0][1])

    def _says_the_same(self, pending: _Pending, edit: int, request: EditRequest) -> bool:
        if edit >= pending.first:
            other = pending.plan_of(edit).request
            return (other.wordings, other.target.strip(), other.subject, other.rephrasings) == (
                request.wordings, request.target.strip(), request.subject, request.rephrasings)  # fmt: skip
        row = self.journal.state.edits[edit]
        mine = (
            request.prompt.strip(),
            request.target.strip(),
            list(request.rephrasings),
            list(request.not_prompts),
            request.subject,
        )
        return mine == (row["prompt"], row["target"], row["rephrasings"], row["not_prompts"], row["subject"])

    def _existing(self, edit: int) -> EditResult:
        row = self.journal.state.row(edit)
        kept = {name: row[name] for name in ("loss", "steps", "nearest", "overlap", "supersedes")}
        found = self._threshold(edit) if row["status"] == "active" else None
        return EditResult(edit, **kept, seconds=0.0, threshold=found, existing=True)

    def _keep(self, pending: _Pending, note: dict[str, Any], config: MemoirConfig) -> list[EditResult]:
        """Hand a batch's edits to the journal, all or none."""
        plans, finished = pending.plans, pending.finished[0]
        for more in pending.finished[1:]:
            finished = finished.joined(more)
        began, journal = time.perf_counter(), self.journal
        signatures = np.stack([update.signature for update in finished.updates])
        nearest, overlap = journal.memory.index.nearest(signatures)
        about, facts = {"created": now(), **note}, []
        for number, (request, plan) in enumerate(zip(finished.requests, plans, strict=True)):
            facts.append({
                "prompt": request.prompt.strip(),
                "target": request.target.strip(),
                "loss": finished.final[number],
                "steps": finished.steps[number],
                "seconds": (finished.seconds + time.perf_counter() - began) / len(finished.requests),
                "nearest": int(nearest[number]) if nearest[number] >= 0 else None,
                "overlap": float(overlap[number]),
                "supersedes": plan.replaced,
                "rephrasings": list(request.rephrasings),
                "not_prompts": list(request.not_prompts),
                "subject": request.subject,
                "key": request.key,
                "codes": [wording.packed() for wording, _ in plan.read],
                **about,
            })  # fmt: skip
        names = ("loss", "steps", "nearest", "overlap", "supersedes")
        ids = journal.add(facts, finished.updates)
        seconds = (finished.seconds + time.perf_counter() - began) / len(facts)  # includes the time to keep them
        return [
            EditResult(
                edit,
                **{name: fact[name] for name in names},
                seconds=seconds,
                converged=finished.final[number] <= config.stop_loss,
                threshold=self._threshold(edit),
                similar=plan.similar,
                also_answers=self._also(edit, plan),
            )
            for number, (edit, fact, plan) in enumerate(zip(ids, facts, plans, strict=True))
        ]

    def _threshold(self, edit: int) -> float:
        with self.journal.memory.lock:
            return float(self.editor.router.threshold([edit])[0])

    def _also(self, edit: int, plan: _Planned) -> list[str]:
        """The not_prompts that would read the edit if they were not excluded."""
        request, words = plan.request, self.editor.router.words
        if words is None:
            return []
        first = 1 + len(request.rephrasings)
        with self.journal.memory.lock:
            least = words.threshold.value
            return [
                text
                for text, (_, code) in zip(request.not_prompts, plan.read[first:], strict=True)
                if words.keys.score(code, edit, guarded=False) >= least
            ]


def note_of(author: str, tags: Iterable[str], metadata: dict[str, Any] | None) -> dict[str, Any]:
    """The user's notes on an edit, checked, as the fields "author", "tags" and "metadata".

    Raises:
        TypeError: a value has the wrong type, or the metadata is not JSON.
        ValueError: the metadata is nested too deeply, or a text holds half a surrogate pair.
    """
    if not isinstance(author, str):
        raise TypeError(f"author must be text, got {quoted(author)}")
    if not isinstance(metadata, (dict, type(None))):
        raise TypeError(f"metadata must be a JSON object (dict), got {quoted(metadata)}")
    try:
        kept = parse(json.dumps(metadata or {}, allow_nan=False), "metadata")
        deep = _depth(kept)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"metadata must be JSON: {error}") from None
    if deep > _DEEPEST:
        raise ValueError(f"metadata is nested {deep} levels deep, at most {_DEEPEST} are kept")
    note = {"author": author, "tags": check_tags(tags), "metadata": kept}
    return whole(note, "author, tags or metadata")


def _depth(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, parts), default=0)
