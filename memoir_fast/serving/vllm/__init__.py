"""The vLLM plugin (entry point group `vllm.general_plugins`): registers the architectures that edited checkpoints name.

vLLM calls `register` in the front end, the engine core, every worker and the process that inspects models; it imports nothing
heavy and may run more than once.
"""

from __future__ import annotations

import logging
from typing import Any


def register() -> None:
    """Make `Memoir*ForCausalLM` known to vLLM, and the settings that they refuse."""
    from ..export import ARCHITECTURES

    try:
        from vllm import ModelRegistry
        from vllm.model_executor.models.config import MODELS_CONFIG_MAP

        from . import caching
        from .settings import MemoirSettings
    except (
        ImportError
    ) as error:  # this vLLM serves other models, and refuses edited ones as an architecture that it does not know
        logging.getLogger("vllm.memoir_fast").warning("edited models cannot be served: %s", _reason(error))
        return
    caching.install()  # here, for no other code of ours runs in the process that schedules
    known = ModelRegistry.get_supported_archs()
    for base in ARCHITECTURES:
        name = "Memoir" + base
        if name not in known:
            ModelRegistry.register_model(name, f"{__name__}.models:{name}")
        MODELS_CONFIG_MAP[name] = MemoirSettings


def _reason(error: ImportError) -> str:
    from ..serve import check_vllm

    try:
        check_vllm()
    except ImportError as other:
        return str(other)
    return str(error)


def refresh(llm: Any) -> dict[str, int]:
    """Take up the edits that the store has now, without a restart; running requests keep the table they began with.

    Args:
        llm: an offline `vllm.LLM` of an exported folder.

    Returns:
        {"generation": int, "edits": int, "seq": int}

    Raises:
        ValueError: the store is missing, damaged or another model's; the engine keeps the edits that it has. RuntimeError: the workers do
            not agree, or take the edits while the front end cannot note which these are; the message says which.
    """
    from .live import Snapshot, held_by_all

    with Snapshot(llm.llm_engine.vllm_config.model_config.hf_config.memoir) as snapshot:
        try:
            snapshot.write(held_by_all(llm.collective_rpc("memoir_held")))
            try:
                llm.collective_rpc("memoir_prepare", args=(str(snapshot.path),))
            except (
                Exception
            ):  # a worker's errors come as vLLM's own, so that one that lacks a page cannot be told from others
                if not snapshot.partial:
                    raise
                snapshot.write(())
                llm.collective_rpc("memoir_prepare", args=(str(snapshot.path),))
        except BaseException:
            try:
                llm.collective_rpc("memoir_drop")
            except Exception:  # what went wrong first is the caller's to know; the next refresh drops the table anyway
                logging.getLogger("vllm.memoir_fast").exception("a table that no worker uses could not be dropped")
            raise
        return snapshot.agreed(llm.collective_rpc("memoir_commit", args=(snapshot.seq,)))


def counts(llm: Any) -> dict[str, int]:
    """How many requests were matched, unmatched, switched off or refused since the engine started. llm: an offline `vllm.LLM`."""
    from .live import summed

    return summed(llm.collective_rpc("memoir_counts"))
