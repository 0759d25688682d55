"""Checks chat messages, and joins contents given in parts."""

from __future__ import annotations

from typing import Any


def checked_messages(messages: Any) -> list[dict]:
    """The messages with text contents; outer blanks are removed from the last user's words.

    A content may be a text or a list of OpenAI's parts, {"type": "text", "text": ...}, which are joined with line ends.

    Raises:
        TypeError: they are not a list of messages.
        ValueError: a part is not text, the last user message is empty or missing, or the last message is the
            assistant's.
    """
    if not isinstance(messages, (list, tuple)) or not all(isinstance(m, dict) and "role" in m for m in messages):
        raise TypeError(f'messages must be a list of {{"role": ..., "content": ...}}, got {short(repr(messages))}')
    messages = [
        {**m, "content": _joined(m["content"])} if isinstance(m.get("content"), (list, tuple)) else m for m in messages
    ]
    users = [i for i, m in enumerate(messages) if m["role"] == "user"]
    words = messages[users[-1]].get("content") if users else None
    if not isinstance(words, str) or not words.strip():
        raise ValueError(
            f"messages: the last user message must be text and not empty, got {short(repr(words))}: give its text as `content`"
        )
    if users[-1] != len(messages) - 1 and messages[-1]["role"] == "assistant":
        raise ValueError("messages: the last one is the assistant's, so nothing is asked: leave it out")
    return [{**m, "content": words.strip()} if i == users[-1] else m for i, m in enumerate(messages)]


def _joined(parts: list | tuple) -> str:
    """The text of a content that is given in parts."""
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise ValueError(
                f'messages: a content may hold parts of type "text", {{"type": "text", "text": ...}}; got one of type {kind!r}: a memory is '
                "asked in words"
            )
    return "\n".join(part["text"] for part in parts)


def short(text: str) -> str:
    """A text for an error message, quoted and cut to 60 characters."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
