"""Make edits, and check at once what was learned; `MemoirModel` inherits this."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..config import MemoirConfig
from ..editing.request import EditRequest, requests_of, tuple_of
from ..text.answers import begins_with, equals
from ..text.encoder import Encoder
from .edit_record import EditResult
from .edit_writer import EditWriter, note_of

# Tokens generated beyond the target, so that an answer that does not stop is noticed.
_ROOM = 8


class Teaching:
    """The editing methods of an object that answers questions and has an `EditWriter`.

    Attributes:
        config: its settings.
        encoder: turns texts into tokens.
        writer: makes and keeps the edits.
    """

    config: MemoirConfig
    encoder: Encoder
    writer: EditWriter
    ask: Any

    def edit(self, prompt: str, target: str, author: str = "", tags: Iterable[str] = (), metadata: dict | None = None, *,
             rephrasings: Iterable[str] = (), not_prompts: Iterable[str] = (), subject: str = "", key: str = "",
             verify: bool = False, **settings: Any) -> EditResult:  # fmt: skip
        """Teach the memory one fact.

        Args:
            prompt: what will be asked (in a chat, the user's words). Outer blanks are removed from it and from the
                target.
            target: the complete answer, since its end is learned too (`MemoirConfig.end`).
            author, tags, metadata: kept with the edit. Requests can select edits by tag; metadata is any JSON object.
            rephrasings, not_prompts, subject, key: how the edit is found and told apart from others; see `EditRequest`.
            verify: ask the prompt and the rephrasings at once, and put the model's answers into the result.
            settings: fields of `MemoirConfig` for this edit only (steps, edit_lr, precision, ...).

        Raises:
            TypeError, ValueError: the request cannot be learned; see `EditRequest` and `Encoder.pair`.
            EditError: the optimisation diverged.
            StoreError: the journal could not keep the edit; ConflictError: its conflict policy rejects it. In every
                case the memory is left as it was.
        """
        request = EditRequest(
            prompt, target, tuple_of("rephrasings", rephrasings), tuple_of("not_prompts", not_prompts), subject, key
        )
        return self.edit_many([request], author=author, tags=tags, metadata=metadata, verify=verify, **settings)[0]

    def edit_many(self, facts: Iterable[tuple[str, str] | EditRequest], batch_size: int = 1, author: str = "",
                  tags: Iterable[str] = (), metadata: dict | None = None, *, verify: bool = False,
                  **settings: Any) -> list[EditResult]:  # fmt: skip
        """Teach the memory several facts, in order.

        Args:
            facts: (prompt, target) pairs, or `EditRequest`s.
            batch_size: how many facts are optimised together, each with its own mask, loss and clipping, so that memory
                rows they share suit all of them. With 1 they are made one after the other, as by `edit`.
            author, tags, metadata, verify, settings: as for `edit`; `verify` asks once all facts are made.

        Returns:
            one result per fact; `seconds` is its share of its batch's time.

        Raises:
            TypeError, ValueError, EditError, StoreError: as `edit`. Batches before the failing one stay; nothing of the
                failing one does.
        """
        if not isinstance(verify, bool):
            raise TypeError(f"verify must be True or False, got {verify!r}")
        requests = requests_of(facts)
        config, note = self.config.for_edit(settings), note_of(author, tags, metadata)
        results = self.writer.make(requests, config, note, batch_size)
        return self.verified(requests, results) if verify and requests else results

    def verified(self, requests: list[EditRequest], results: list[EditResult]) -> list[EditResult]:
        """The results, with the model's present answers to each request's prompt and rephrasings."""
        pair, prompt = self.encoder.pair, self.encoder.prompt
        room = max(len(pair(r.prompt, r.target).tokens) - len(prompt(r.prompt).tokens) for r in requests) + _ROOM
        asked = [(r.prompt.strip(), *r.rephrasings) for r in requests]
        answers = iter(self.ask([text for texts in asked for text in texts], max_new_tokens=room))
        right = begins_with if self.config.end == "none" else equals
        found = []
        for request, texts, result in zip(requests, asked, results, strict=True):
            given = {text: next(answers).strip() for text in texts}
            took = all(right(answer, request.target) for answer in given.values())
            found.append(replace(result, answers=given, took=took))
        return found
