"""What a checkpoint's `config.json` says of its memory (its `memoir` section), and which store may take the place of the one it was made from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..base import fingerprint as fingerprints
from ..config import ACTS, FEATURES, ROUTERS
from ..errors import quoted
from ..store import Store

FORMAT, FORMAT_VERSION = "memoir_fast vllm", 6
_WIDEST = 1 << 18  # features of a projection
_TARGET = re.compile(r"model\.layers\.(\d{1,5})\.mlp\.down_proj")  # the projections that an export can have
# What a running engine is built around: a table of a store that differs in one of these cannot be read by it.
_BUILT_IN = ("target", "in_features", "out_features", "top_k", "feature", "router", "acts", "page_edits", "depth")


def section_of(store: Store, path: str | Path) -> dict[str, Any]:
    """The section for an open store; path: where it lies, for refreshing."""
    fingerprint, config = store.manifest.fingerprint, store.manifest.config
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "target": fingerprint["target"],
        "in_features": fingerprint["in_features"],
        "out_features": fingerprint["out_features"],
        "top_k": config.top_k,
        "feature": config.feature,
        "router": config.router,
        "acts": config.acts,
        "page_edits": config.page_edits or 0,
        "depth": int(store.words["depth"]) if config.router == "tokens" and store.words else None,
        "chat_template": config.chat_template,
        "fingerprint": fingerprint,
        "store": str(Path(path).resolve()),
        "seq": store.state.seq,
    }


def check_section(section: Any, layers: int | None = None) -> None:
    """Raise ValueError, naming what is wrong, unless a section is one that `section_of` can have made. layers: how many the served model has,
    where known."""
    if not isinstance(section, dict) or (section.get("format"), section.get("format_version")) != (
        FORMAT,
        FORMAT_VERSION,
    ):
        raise ValueError(
            f"config.json has no memoir section of format {FORMAT!r} {FORMAT_VERSION}: export the store again"
        )
    widest = {"in_features": _WIDEST, "out_features": _WIDEST, "top_k": section.get("in_features")}
    wrong = [
        name for name, most in widest.items() if not (_whole(section.get(name), 1) and _whole(most, section[name]))
    ]
    choices = {"feature": FEATURES, "router": ROUTERS, "acts": ACTS, "chat_template": (True, False, None)}
    wrong += [name for name, legal in choices.items() if section.get(name) not in legal]
    kinds = {"store": str, "fingerprint": dict, "seq": int}
    wrong += [name for name, kind in kinds.items() if type(section.get(name)) is not kind]
    if not _whole(section.get("page_edits"), 0):
        wrong.append("page_edits")
    wrong += _wrong_layers(section, layers)
    if wrong:
        told = ", ".join(f"{name} is {quoted(section.get(name))}" for name in wrong)
        raise ValueError(f"the memoir section of config.json is damaged: {told}. Export the store again")


def _wrong_layers(section: dict[str, Any], layers: int | None) -> list[str]:
    """Which of `target` and `depth` no export has: words choose an edit before layer `depth`, and no later than it is read."""
    target, depth = section.get("target"), section.get("depth")
    found = _TARGET.fullmatch(target) if isinstance(target, str) else None
    if found is None or (layers is not None and int(found[1]) >= layers):
        return ["target"]
    if section.get("router") == "tokens":
        fits = type(depth) is int and 0 <= depth <= int(found[1])
    else:
        fits = depth is None
    return [] if fits else ["depth"]


def _whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def check_store(section: dict[str, Any], store: Store) -> None:
    """Raise ValueError, naming what differs, unless a running engine of `section` can take up the edits of an open store."""
    present = section_of(store, section["store"])
    differing = fingerprints.differences(present["fingerprint"], section["fingerprint"])
    differing += [
        f"{name} (memory: {quoted(present[name])}, model: {quoted(section[name])})"
        for name in _BUILT_IN
        if section[name] != present[name] and not any(phrase.startswith(f"{name} (") for phrase in differing)
    ]
    if differing:
        raise ValueError(
            f"the store at {section['store']} holds a memory for another model than the one that is served; they differ in {', '.join(differing)}. Put the store back that "
            "this checkpoint was exported from, or export the new one and start the server again"
        )
