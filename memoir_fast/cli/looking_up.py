"""Looks up a file's questions, with a progress bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..model import MemoirModel

_AT_ONCE = 64  # questions between two steps of the bar; as few are looked up without one


def looked_up(model: MemoirModel, questions: list[str], what: str, top: int = 5) -> list[dict[str, Any]]:
    """Which edit each question reads, as `Answering.route` tells it.

    Args:
        questions: of a file. what: is done, for the bar. top: the most candidates of each.
    """
    from tqdm import tqdm

    routes: list[dict[str, Any]] = []
    with tqdm(total=len(questions), desc=what, unit="question", disable=len(questions) <= _AT_ONCE) as bar:
        for start in range(0, len(questions), _AT_ONCE):
            part = questions[start : start + _AT_ONCE]
            routes += model.route(part, top)
            bar.update(len(part))
    return routes
