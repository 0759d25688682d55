"""A request to edit: one fact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..base.json_text import HALF, half_pair
from ..errors import quoted


@dataclass(frozen=True)
class EditRequest:
    """One fact: after the edit, `prompt` is answered by `target`.

    Attributes:
        prompt: the question, or the beginning of the text to complete.
        target: the answer to give.
        rephrasings: other wordings of the prompt that read the edit too.
        not_prompts: prompts that must keep the base model's answer, however similar they are.
        subject: words that a prompt must contain to read the edit ("Norvane Robotics"); "" for none.
        key: the user's own name for the fact. An edit with a stored key replaces the edit stored under it, or does
            nothing if both say the same.

    Raises:
        TypeError: a value is not text, or not a list of texts.
        ValueError: a text is empty or holds half a surrogate pair, or a text is both a wording and a `not_prompts`
            entry.
    """

    prompt: str
    target: str
    rephrasings: tuple[str, ...] = ()
    not_prompts: tuple[str, ...] = ()
    subject: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        for name, value in (("prompt", self.prompt), ("target", self.target)):
            _check_text(name, value)
            if not value.strip():
                raise ValueError(f"{name} is empty: give the text to edit")
        for name in ("rephrasings", "not_prompts"):
            values = getattr(self, name)
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise TypeError(f"{name} must be a list of texts, got {quoted(values)}")
            for value in values:
                _check_text(name, value)
                if not value.strip():
                    raise ValueError(f"{name} holds an empty text: leave it out")
            object.__setattr__(self, name, tuple(value.strip() for value in values))
        for name in ("subject", "key"):
            _check_text(name, getattr(self, name))
        said = {" ".join(text.lower().split()) for text in (self.prompt, *self.rephrasings)}
        both = [text for text in self.not_prompts if " ".join(text.lower().split()) in said]
        if both:
            raise ValueError(
                f"not_prompts: {quoted(both[0])} is the prompt or one of the rephrasings: it cannot be both"
            )

    @property
    def wordings(self) -> tuple[str, ...]:
        """The prompt, the rephrasings and the not_prompts, in the order in which their codes are stored."""
        return (self.prompt.strip(), *self.rephrasings, *self.not_prompts)


def requests_of(facts: Iterable[Any]) -> list[EditRequest]:
    """(prompt, target) pairs or `EditRequest`s as requests. Raises TypeError for anything else, and otherwise as
    `EditRequest`."""
    found = []
    for number, fact in enumerate(facts):
        if isinstance(fact, EditRequest):
            found.append(fact)
        elif isinstance(fact, (tuple, list)) and len(fact) == 2:
            found.append(EditRequest(*fact))
        else:
            raise TypeError(f"facts must be (prompt, target) pairs or EditRequests, got {quoted(fact)} at {number}")
    return found


def tuple_of(name: str, values: Iterable[str]) -> tuple[str, ...]:
    """Texts as a tuple. Raises TypeError for a single text (it would be split into letters) and for anything not
    iterable."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of texts, got {quoted(values)}")
    return tuple(values)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, got {type(value).__name__}")
    if half_pair(value):
        raise ValueError(f"{name}: {quoted(value)} holds half a surrogate pair, which is no character: {HALF}")
