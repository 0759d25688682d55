"""Whether a folder still holds the store that a reader opened. Another one in its place may find and read the same ids by other rules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..base import fingerprint as fingerprints
from ..errors import StoreError, quoted

if TYPE_CHECKING:
    import torch

    from .manifest import Manifest

# What a base file says of how edits are found, apart from the prompts to calibrate with: the background, and the words' tensors.
Rule: TypeAlias = "tuple[torch.Tensor, dict[str, torch.Tensor] | None]"
# Settings that a reader is built around.
_BUILT_IN = ("top_k", "chat_template", "question_template", "acts", "write", "feature")


def check_same_memory(folder: Path, mine: Manifest, now: Manifest) -> None:
    """Raise StoreError, naming what differs, unless two manifests tell of memories that one reader can read."""
    differing = fingerprints.differences(mine.fingerprint, now.fingerprint)
    differing += ["permutation"] if mine.permutation != now.permutation else []
    for name in _BUILT_IN:
        one, other = getattr(mine.config, name), getattr(now.config, name)
        if one != other:
            differing.append(f"{name} (opened: {quoted(one)}, now: {quoted(other)})")
    if differing:
        raise _another(folder, differing)


def check_same_rule(folder: Path, mine: Rule, now: Rule) -> None:
    """Raise StoreError, naming what differs, unless edits of both stores are found by the same background and matcher."""
    differing = [] if mine[0].cpu().equal(now[0].cpu()) else ["background"]
    before, words = mine[1], now[1]
    if before is not None and words is not None:  # a store may get a matcher later
        differing += [
            f"the matcher's {name}"
            for name in sorted({*before, *words} - {"unrelated"})
            if name not in before or name not in words or not before[name].equal(words[name])
        ]
    if differing:
        raise _another(folder, differing)


def _another(folder: Path, differing: list[str]) -> StoreError:
    return StoreError(
        f"{folder}: holds another store now; they differ in {', '.join(differing)}. Nothing was changed here: put the store back, or open the new one"
    )
