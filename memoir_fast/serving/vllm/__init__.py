"""The vLLM plugin (entry point group `vllm.general_plugins`): registers the architectures that edited checkpoints name.

vLLM calls `register` in the front end, the engine core, every worker and the process that inspects models; it imports nothing
heavy and may run more than once.
"""

from __future__ import annotations

from typing import Any


def register() -> None:
    """Make `Memoir*ForCausalLM` known to vLLM, and the settings that they refuse."""
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP

    from ..export import ARCHITECTURES
    from .settings import MemoirSettings

    known = ModelRegistry.get_supported_archs()
    for base in ARCHITECTURES:
        name = "Memoir" + base
        if name not in known:
            ModelRegistry.register_model(name, f"{__name__}.models:{name}")
        MODELS_CONFIG_MAP[name] = MemoirSettings


def refresh(llm: Any) -> dict[str, int]:
    """Take up the edits that the store has now, without a restart; running requests keep the table they began with.

    Args:
        llm: an offline `vllm.LLM` of an exported folder.

    Returns:
        {"generation": int, "edits": int, "seq": int}

    Raises:
        RuntimeError: the workers do not agree. ValueError: the store is missing or damaged.
    """
    from .live import Snapshot

    with Snapshot(llm.llm_engine.vllm_config.model_config.hf_config.memoir) as snapshot:
        return snapshot.agreed(llm.collective_rpc("memoir_load", args=(str(snapshot.path),)))


def counts(llm: Any) -> dict[str, int]:
    """How many requests were matched, unmatched, switched off or refused since the engine started. llm: an offline `vllm.LLM`."""
    from .live import summed

    return summed(llm.collective_rpc("memoir_counts"))
