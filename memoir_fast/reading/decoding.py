"""Refuses ways of decoding that do not work with a memory, whoever calls `generate`."""

from __future__ import annotations

from typing import Any

import torch

# Options of transformers' generate that do not work with a memory, and why.
_UNSUPPORTED = {
    "assistant_model": "assisted decoding verifies drafts of a second, unedited model and rewinds the cache",
    "prompt_lookup_num_tokens": "assisted decoding rewinds the cache",
    "assistant_early_exit": "assisted decoding runs a model that stops below the memory",
    "prefill_chunk_size": "the route needs the whole prompt, but its first chunk would already be answered",
    "guidance_scale": "the unconditional branch would be routed by another prompt than the conditional one",
    "custom_generate": "a custom decoding loop may call the model in ways that the routing does not know",
    "negative_prompt_ids": "a second prompt would be routed by itself",
}


def check_decoding(model: Any, args: tuple, kwargs: dict[str, Any]) -> None:
    """Raise ValueError for a way of decoding that does not work with a memory.

    Args:
        model: its `generation_config` supplies what the call leaves out.
        args, kwargs: those of its `generate`.
    """
    given = kwargs.get("generation_config", args[1] if len(args) > 1 else None)
    configs = [given, getattr(model, "generation_config", None)]

    def asked(name: str) -> Any:
        values = [kwargs.get(name), *(getattr(config, name, None) for config in configs)]
        return next((value for value in values if value is not None), None)

    for name, reason in _UNSUPPORTED.items():
        value = asked(name)
        if value is not None and value is not False and not (name == "guidance_scale" and value == 1):
            raise ValueError(f"{name} is not supported with a memory: {reason}")
    if asked("cache_implementation") == "paged":
        raise ValueError("cache_implementation='paged' is not supported with a memory: it joins prompts in one row")


def real_tokens(model: Any, tokens: Any) -> torch.Tensor | None:
    """(B, T) bool, False at padding, for token ids (B, T) without an attention mask; None if nothing is padding.

    The mask is inferred as in transformers' `generate`: only if the padding token is known and does not end texts. On a
    GPU a mask without padding is returned too, because looking at it would mean waiting.
    """
    config = getattr(model, "generation_config", None) or model.config
    pad, ends = getattr(config, "pad_token_id", None), getattr(config, "eos_token_id", None)
    if pad is None or not isinstance(tokens, torch.Tensor) or tokens.dim() != 2 or tokens.is_floating_point():
        return None
    if pad in (ends if isinstance(ends, (list, tuple)) else [ends]):
        return None
    kept = tokens != pad
    kept |= ~kept.any(1, keepdim=True)  # a row of padding tokens only is a prompt of that token
    if kept.is_cuda:  # checking whether all are kept would wait for the device
        return kept
    return None if kept.all() else kept
