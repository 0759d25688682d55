"""Makes edits: optimises them, works out what they replace, and has the journal keep them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..config import MemoirConfig
from ..editing.editor import Editor, Finished
from ..editing.request import EditRequest
from ..memory.selection import check_tags
from ..reading.probe import prompt_signatures
from ..reading.threshold import overlaps
from .edit_record import EditResult
from .journal import Journal, now


class EditWriter:
    """The way from requests to kept edits; one batch at a time, under the journal's `writing`.

    Args:
        editor: optimises; journal: keeps.
    """

    def __init__(self, editor: Editor, journal: Journal):
        self.editor, self.journal = editor, journal

    def make(
        self, requests: list[EditRequest], config: MemoirConfig, note: dict[str, Any], batch_size: int
    ) -> list[EditResult]:
        """Make edits in order, `batch_size` in the same steps; see `MemoirModel.edit_many`."""
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be an int >= 1, got {batch_size!r}")
        self.journal.check_writable()
        results: list[EditResult] = []
        for start in range(0, len(requests), batch_size):
            with self.journal.writing:
                results += self._batch(requests[start : start + batch_size], config, note)
        return results

    def _batch(self, requests: list[EditRequest], config: MemoirConfig, note: dict[str, Any]) -> list[EditResult]:
        journal = self.journal
        replaced: list[list[int]] = [[] for _ in requests]
        if journal.conflict != "keep":
            editor = self.editor
            taken: set[int] = set()
            prompts = [editor.encoder.prompt(request.prompt) for request in requests]
            signatures = prompt_signatures(editor.model, editor.router, prompts, config.batch_size).numpy()
            for number, request in enumerate(requests):
                if self._contradicts(number, requests, signatures):  # one before it, which must be kept first
                    head, tail = requests[:number], requests[number:]
                    return self._batch(head, config, note) + self._batch(tail, config, note)
                replaced[number] = [i for i in journal.conflicts(signatures[number], request.target) if i not in taken]
                taken.update(replaced[number])
        without = [journal.state.update_of(i) for i in sorted({old for some in replaced for old in some})]
        return self.keep(self.editor.optimise(requests, config, without), replaced, note, config)

    def _contradicts(self, number: int, requests: list[EditRequest], signatures: np.ndarray) -> bool:
        """Whether a request has the prompt of an earlier one of its batch, and another target."""
        near = overlaps(signatures[:number], signatures[number], self.journal.memory.top_k)
        pairs = zip(near, requests, strict=False)
        return any(o >= self.journal.conflict_threshold and r.target != requests[number].target for o, r in pairs)

    def keep(
        self, finished: Finished, replaced: list[list[int]], note: dict[str, Any], config: MemoirConfig
    ) -> list[EditResult]:
        """Keep finished edits. replaced: per edit the stored ones that it supersedes."""
        began, journal = time.perf_counter(), self.journal
        signatures = np.stack([update.signature for update in finished.updates])
        nearest, overlap = journal.memory.index.nearest(signatures)
        about, facts = {"created": now(), **note}, []
        for number, request in enumerate(finished.requests):
            facts.append({
                "prompt": request.prompt,
                "target": request.target,
                "loss": finished.final[number],
                "steps": finished.steps[number],
                "seconds": (finished.seconds + time.perf_counter() - began) / len(finished.requests),
                "nearest": int(nearest[number]) if nearest[number] >= 0 else None,
                "overlap": float(overlap[number]),
                "supersedes": replaced[number],
                **about,
            })  # fmt: skip
        names = ("loss", "steps", "seconds", "nearest", "overlap", "supersedes")
        ids = journal.add(facts, finished.updates)
        seconds = (finished.seconds + time.perf_counter() - began) / len(facts)  # with what keeping them took
        results = []
        for number, (edit, fact) in enumerate(zip(ids, facts, strict=True)):
            converged = finished.final[number] <= config.stop_loss
            results.append(EditResult(edit, **{n: fact[n] for n in names} | {"seconds": seconds}, converged=converged))
        return results


def note_of(author: str, tags: Iterable[str], metadata: dict[str, Any] | None) -> dict[str, Any]:
    """What the user wants kept with an edit, checked. Raises TypeError for another kind of value, or metadata that is not JSON."""
    if not isinstance(author, str):
        raise TypeError(f"author must be text, got {author!r}")
    if not isinstance(metadata, (dict, type(None))):
        raise TypeError(f"metadata must be a JSON object (dict), got {metadata!r}")
    try:
        kept = json.loads(json.dumps(metadata or {}, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"metadata must be JSON: {error}") from None
    return {"author": author, "tags": check_tags(tags), "metadata": kept}
