"""Compare what a model wrote with what it should have written."""

from __future__ import annotations

import re

_MARKS = " .,;:!?\"'"  # ignored at an answer's end
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|$)")


def first_sentence(text: str, least: int = 0) -> str:
    """The text up to its first sentence end at or after position `least`, stripped."""
    text = text.strip()
    end = _SENTENCE_END.search(text, least)
    return (text[: end.start()] if end else text).strip()


def begins_with(answer: str, target: str) -> bool:
    """Whether the answer begins with the target, as whole words, ignoring case and spacing."""
    answer, target = _normal(answer), _normal(target)
    return answer.startswith(target) and not answer[len(target) : len(target) + 1].isalnum()


def contains(answer: str, target: str) -> bool:
    """Whether the answer contains the target, as whole words, ignoring case and spacing."""
    answer, target = _normal(answer), _normal(target)
    return re.search(rf"(?<!\w){re.escape(target)}(?!\w)", answer) is not None


def equals(answer: str, target: str) -> bool:
    """Whether the answer is the target, ignoring case, spacing and punctuation at its end."""
    return _normal(answer) == _normal(target)


def is_first_sentence(answer: str, target: str) -> bool:
    """Whether the target is the answer's first sentence. Full stops inside the target do not end it ("St.
    Petersburg")."""
    return equals(first_sentence(answer, len(target.strip().rstrip(_MARKS))), target)


def _normal(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(_MARKS)
