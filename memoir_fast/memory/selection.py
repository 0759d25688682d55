"""Which edits a request may read, chosen by their tags."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..base.json_text import HALF, half_pair
from ..errors import quoted


@dataclass(frozen=True)
class Tags:
    """Which edits a request may read: those that carry one of `tags`, and with `untagged` also those that carry none."""

    tags: frozenset[str]
    untagged: bool = False

    def admits(self, carried: list[str]) -> bool:
        """Whether an edit that carries these tags may be read."""
        return bool(self.tags.intersection(carried)) or (self.untagged and not carried)


def check_tags(tags: Iterable[str]) -> list[str]:
    """Tags as a list of distinct texts, in order.

    Raises:
        TypeError: not a list of non-empty texts.
        ValueError: a tag holds half a surrogate pair.
    """
    found = [tags] if isinstance(tags, str) else list(tags)
    if isinstance(tags, str) or not all(isinstance(tag, str) and tag for tag in found):
        raise TypeError(f"tags must be a list of non-empty texts, got {quoted(tags)}")
    if any(map(half_pair, found)):
        raise ValueError(f"tags: {quoted(found)} hold half a surrogate pair, which is no character: {HALF}")
    return list(dict.fromkeys(found))
