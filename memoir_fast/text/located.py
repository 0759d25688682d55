"""Where a user's words stand in a rendered chat: found by rendering the same chat with a placeholder in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

PLACEHOLDERS = ("quxwordzazplacequv", "vuplaceholderxuwoz")  # one word each, with different first and last letters


class Rendered(NamedTuple):
    """A chat's text up to the place where the assistant's answer begins; the user's words are text[start:end]."""

    text: str
    start: int
    end: int

    def stripped(self) -> Rendered:
        """The same without the blanks at the words' ends; start == end where there are only blanks."""
        words = self.text[self.start : self.end]
        start = self.start + len(words) - len(words.lstrip())
        return Rendered(self.text, start, start + len(words.strip()))


def locate(
    render: Callable[[list[dict[str, Any]]], str], messages: list[dict[str, Any]], text: str | None = None
) -> Rendered:
    """The chat's text, and where the last user's words stand in it.

    Args:
        render: what the chat template makes of messages. Two renderings may differ: a clock that a template shows moves on.
        messages: a chat with a message of the role `user`, whose content is text or a list of parts of the type `text`.
        text: what `render` has made of these messages already, if the words are to be found in that; or a part of it, as whoever has cut a
            long prompt keeps it. The words' place is counted from the whole text's start, so a text in which the words do not stand as they
            were written is compared with the whole one.

    Raises:
        ValueError: the words cannot be told from the rest.
    """
    last = max(i for i, m in enumerate(messages) if m["role"] == "user")
    for attempt in range(3):
        plain = text if text is not None and not attempt else render(messages)
        mark = next(p for p in (x + "q" * n for n in range(100) for x in PLACEHOLDERS) if p not in plain)
        content: Any = [{"type": "text", "text": mark}] if isinstance(messages[last].get("content"), list) else mark
        marked = render([*messages[:last], {**messages[last], "content": content}, *messages[last + 1 :]])
        head, found, tail = marked.rpartition(mark)
        if not found:
            break
        end = len(plain) - len(tail)
        if plain.startswith(head) and plain.endswith(tail) and len(head) < end:
            if plain is text and text[len(head) : end] != messages[last].get("content"):
                continue  # it may be cut: a template without a head shows no difference
            if text is None or len(text) == len(plain):  # but for a clock the same
                return Rendered(text or plain, len(head), end)
            if text in plain:
                return Rendered(plain, len(head), end)
    raise ValueError(
        "messages: the chat template leaves out or rewrites the last user message, so its tokens cannot be told from the "
        "template's; use chat_template=False or another template"
    )


def covering(offsets: list[tuple[int, int]], start: int, end: int) -> tuple[int, int] | None:
    """(first, behind the last) of the tokens that hold a character of text[start:end]; None where there are none. offsets: of each token
    the characters that it covers."""
    inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start]
    return (inside[0], inside[-1] + 1) if inside else None
