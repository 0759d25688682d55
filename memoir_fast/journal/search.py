"""Finding edits among a journal's rows: by text, tags, author, key, status and time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from .lists import folded
from .past import time_of


def search(
    rows: Iterable[dict[str, Any]],
    words: Collection[str] = (),
    *,
    tags: Collection[str] = (),
    author: str | None = None,
    key: str | None = None,
    statuses: Collection[str] = (),
    since: str | None = None,
    until: str | None = None,
) -> list[dict[str, Any]]:
    """The rows that fit everything that is asked for, in their order.

    Args:
        rows: see `EditRecord.row`.
        words: texts that must all stand somewhere in what was said of the edit (prompt, target, rephrasings, not_prompts, subject, key, author,
            tags, metadata), up to case and blanks.
        tags: the edit must carry one of them; statuses: it must have one of them. Every edit fits an empty collection.
        author, key: exactly these.
        since, until: when it was made, ISO 8601, both inclusive.

    Raises:
        ValueError: `since` or `until` is no time.
    """
    wanted = [folded(word) for word in words]
    first = None if since is None else time_of(since, "since")
    last = None if until is None else time_of(until, "until")
    found = []
    for row in rows:
        if (statuses and row["status"] not in statuses) or (tags and not set(tags) & set(row["tags"])):
            continue
        if (author is not None and row["author"] != author) or (key is not None and row["key"] != key):
            continue
        if first is not None or last is not None:
            made = time_of(row["created"], f"edit {row['id']}: created")
            if (first is not None and made < first) or (last is not None and made > last):
                continue
        said = folded(" \n ".join(_texts(row))) if wanted else ""
        if all(word in said for word in wanted):
            found.append(row)
    return found


def tag_counts(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Tag -> {"active": edits in force that carry it, "all": edits that carry it whatever their status}, by name."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        for tag in row["tags"]:
            counts = found.setdefault(tag, {"active": 0, "all": 0})
            counts["all"] += 1
            counts["active"] += row["status"] == "active"
    return dict(sorted(found.items()))


def _texts(row: dict[str, Any]) -> list[str]:
    """Everything that a person said of an edit."""
    metadata = [json.dumps(row["metadata"], ensure_ascii=False)] if row["metadata"] else []
    lists = [text for name in ("rephrasings", "not_prompts", "tags") for text in row[name]]
    return [row["prompt"], row["target"], row["subject"], row["key"], row["author"], *lists, *metadata]
