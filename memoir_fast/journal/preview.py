"""What some changes would do to questions, before they are kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Protocol


class Previewed(Protocol):
    """What answers questions and can be rehearsed with: `MemoirModel`."""

    def ask(self, prompts: Any, max_new_tokens: int = 32) -> Any:
        """See `Answering.ask`."""

    def route(self, prompts: Any, top: int = 5) -> Any:
        """See `Answering.route`."""

    def rehearsal(self) -> AbstractContextManager[None]:
        """See `Rehearsing.rehearsal`."""


@dataclass(frozen=True)
class Reading:
    """How a question is answered.

    Attributes:
        edit: the id of the edit that it reads, None for none; score: that of the likeliest edit; threshold: from which it would be read.
        answer: the text; "" where neither before nor after an edit is read, for that is the base model's answer both times.
    """

    edit: int | None
    score: float
    threshold: float
    answer: str


@dataclass(frozen=True)
class Change:
    """A question before and after."""

    question: str
    before: Reading
    after: Reading

    @property
    def changed(self) -> bool:
        """Whether it reads another edit, or is answered otherwise."""
        return (self.before.edit, self.before.answer) != (self.after.edit, self.after.answer)

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "changed": self.changed}


def preview(
    model: Previewed, questions: list[str], change: Callable[[], Any], max_new_tokens: int = 32
) -> list[Change]:
    """Ask, change, ask again, and take the change back; see `Rehearsing.rehearsal`.

    Only questions that read an edit before or after are asked for their answers: all others are the base model's, bit for bit.

    Args:
        questions: texts; change: edits the model, or takes edits back.

    Returns:
        one a question, in order.
    """
    before = model.route(questions, top=1)
    first = _answers(
        model, [text for text, route in zip(questions, before, strict=True) if _reads(route)], max_new_tokens
    )
    with model.rehearsal():
        change()
        after = model.route(questions, top=1)
        rows = list(zip(questions, before, after, strict=True))
        touched = [text for text, old, new in rows if _reads(old) or _reads(new)]
        later = _answers(model, touched, max_new_tokens)
    first |= _answers(model, [text for text in touched if text not in first], max_new_tokens)
    return [
        Change(text, _reading(old, first.get(text, "")), _reading(new, later.get(text, ""))) for text, old, new in rows
    ]


def _reads(route: dict[str, Any]) -> bool:
    return route["edit"] is not None


def _answers(model: Previewed, questions: list[str], room: int) -> dict[str, str]:
    return dict(zip(questions, model.ask(questions, max_new_tokens=room), strict=True)) if questions else {}


def _reading(route: dict[str, Any], answer: str) -> Reading:
    return Reading(route["edit"], float(route["score"]), float(route["threshold"]), answer)
