"""What a checkpoint's `config.json` says of its memory (its `memoir` section), and which store may take the place of the one it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..base import fingerprint as fingerprints
from ..errors import quoted
from ..store import Store

FORMAT, FORMAT_VERSION = "memoir_fast vllm", 5
# What a running engine is built around: a table of a store that differs in one of these cannot be read by it.
_BUILT_IN = ("target", "in_features", "out_features", "top_k", "feature", "router", "acts", "depth")


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
        "depth": int(store.words["depth"]) if config.router == "tokens" and store.words else None,
        "chat_template": config.chat_template,
        "fingerprint": fingerprint,
        "store": str(Path(path).resolve()),
        "seq": store.state.seq,
    }


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
