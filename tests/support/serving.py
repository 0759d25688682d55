"""A serving process's memory without an engine."""

from __future__ import annotations

from typing import Any

from memoir_fast import MemoirModel


def served_settings(model: MemoirModel) -> dict[str, Any]:
    """What an export says of this model's memory, as far as `Served` asks."""
    config = model.config
    return {
        "in_features": model.memory.in_features,
        "out_features": model.memory.out_features,
        "router": config.router,
        "top_k": config.top_k,
        "feature": config.feature,
        "acts": config.acts,
        "page_edits": config.page_edits,
    }
