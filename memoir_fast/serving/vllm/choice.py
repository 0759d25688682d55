"""What a request may ask of the memory: `extra_args` offline, `vllm_xargs` over HTTP. The names begin with `memoir`.

memoir             "auto" (default) or "off"
memoir_edit        the id of the edit to read, whatever the prompt
memoir_tags        only edits that carry one of these tags may be read
memoir_untagged    1: with memoir_tags, also edits without tags
memoir_span        [start, end): the prompt's tokens that route, by default all; a memory that acts on the answer does so from their last on
memoir_explain     1: the answer over HTTP says which edit was read
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_KNOWN = ("memoir", "memoir_edit", "memoir_tags", "memoir_untagged", "memoir_span", "memoir_explain")


@dataclass(frozen=True)
class Choice:
    """A request's wishes, checked."""

    off: bool = False
    edit: int | None = None
    tags: frozenset[str] | None = None
    untagged: bool = False
    span: tuple[int, int] | None = None
    explain: bool = False

    @classmethod
    def of(cls, extra: dict[str, Any] | None, prompt: int | None = None) -> Choice:
        """From a request's extra arguments; prompt: its length in tokens, where known.

        Raises:
            ValueError: an argument that begins with `memoir` is unknown or malformed.
        """
        given = {name: value for name, value in (extra or {}).items() if str(name).startswith("memoir")}
        unknown = sorted(set(given) - set(_KNOWN))
        if unknown:
            raise ValueError(f"vllm_xargs: {', '.join(unknown)} is unknown; the memory takes {', '.join(_KNOWN)}")
        mode = given.get("memoir", "auto")
        if mode not in ("auto", "off"):
            raise ValueError(f'vllm_xargs: memoir must be "auto" or "off", got {mode!r}')
        edit, tags, span = (given.get(f"memoir_{name}") for name in ("edit", "tags", "span"))
        if edit is not None and not (_whole(edit) and edit >= 0):
            raise ValueError(f"vllm_xargs: memoir_edit must be an edit's id, got {edit!r}")
        if tags is not None and not (isinstance(tags, (list, tuple)) and all(isinstance(tag, str) for tag in tags)):
            raise ValueError(f"vllm_xargs: memoir_tags must be a list of texts, got {tags!r}")
        untagged = given.get("memoir_untagged", 0)
        if untagged not in (0, 1):
            raise ValueError(f"vllm_xargs: memoir_untagged must be 0 or 1, got {untagged!r}")
        explain = given.get("memoir_explain", 0)
        if explain not in (0, 1):
            raise ValueError(f"vllm_xargs: memoir_explain must be 0 or 1, got {explain!r}")
        if untagged and tags is None:
            raise ValueError("vllm_xargs: memoir_untagged goes with memoir_tags")
        if span is not None:
            fits = (
                isinstance(span, (list, tuple)) and len(span) == 2 and all(map(_whole, span)) and 0 <= span[0] < span[1]
            )
            if not fits or (prompt is not None and span[1] > prompt):
                size = "" if prompt is None else f" within the prompt's {prompt} tokens"
                raise ValueError(f"vllm_xargs: memoir_span must be [start, end) with start < end{size}, got {span!r}")
        if mode == "off" and not given.keys() <= {"memoir", "memoir_explain"}:
            raise ValueError('vllm_xargs: memoir="off" leaves nothing to choose: drop the other memoir arguments')
        return cls(
            mode == "off",
            edit,
            None if tags is None else frozenset(tags),
            bool(untagged),
            None if span is None else tuple(span),
            bool(explain),
        )


def with_words(extra: dict[str, Any] | None, words: list[int] | str | None) -> dict[str, Any] | None:
    """A request's extra arguments with the place of the user's words as `memoir_span`, unless it says otherwise.

    Args:
        words: [start, end), or why it is not known, as `spans.py` tells; None for a prompt that is no chat.

    Raises:
        ValueError: it is needed and not known.
    """
    given = extra or {}
    if words is None or given.get("memoir") == "off" or "memoir_span" in given:
        return extra
    if isinstance(words, str):
        raise ValueError(words)
    return {**given, "memoir_span": words}


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
