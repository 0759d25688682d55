"""What is asked for: one fact."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class EditRequest:
    """One fact: after the edit, `prompt` is continued by `target` (put behind it after one space).

    Raises:
        TypeError, ValueError: one of them is not text, or empty.
    """

    prompt: str
    target: str

    def __post_init__(self) -> None:
        for name, value in (("prompt", self.prompt), ("target", self.target)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be text, got {type(value).__name__}")
            if not value.strip():
                raise ValueError(f"{name} is empty: give the text to edit")


def requests_of(facts: Iterable[tuple[str, str]]) -> list[EditRequest]:
    """The requests of (prompt, target) pairs, checked. Raises TypeError for anything but pairs, and as `EditRequest`."""
    found = []
    for number, fact in enumerate(facts):
        if not isinstance(fact, (tuple, list)) or len(fact) != 2:
            raise TypeError(f"facts must be (prompt, target) pairs, got {fact!r} at {number}")
        found.append(EditRequest(*fact))
    return found
