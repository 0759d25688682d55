"""Refuses ways of decoding that do not work with a memory, whoever calls `generate`."""

from __future__ import annotations

import copy
from typing import Any

import torch

# Options of transformers' generate that do not work with a memory, and why.
_UNSUPPORTED = {
    "assistant_model": "assisted decoding verifies drafts of a second, unedited model and rewinds the cache",
    "prompt_lookup_num_tokens": "assisted decoding rewinds the cache",
    "use_mtp": "assisted decoding rewinds the cache, and the layers that draft know of no memory",
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
    for name, reason in _UNSUPPORTED.items():
        value = _asked(name, model, args, kwargs)
        if value is not None and value is not False and not (name == "guidance_scale" and value == 1):
            raise ValueError(f"{name} is not supported with a memory: {reason}")
    if _asked("cache_implementation", model, args, kwargs) == "paged":
        raise ValueError("cache_implementation='paged' is not supported with a memory: it joins prompts in one row")


def _given_config(args: tuple, kwargs: dict[str, Any]) -> Any:
    return kwargs.get("generation_config", args[1] if len(args) > 1 else None)


def _asked(name: str, model: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A setting of a call of `generate`: by name, by the call's configuration, or by the model's own."""
    configs = [_given_config(args, kwargs), getattr(model, "generation_config", None) or model.config]
    values = [kwargs.get(name), *(getattr(config, name, None) for config in configs)]
    return next((value for value in values if value is not None), None)


def uncompiled(args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The arguments of a call of `generate` whose decoder is not compiled, unless the call says `disable_compile` itself.

    A configuration is changed in a copy: transformers deprecates settings beside one.
    """
    given = _given_config(args, kwargs)
    if given is None or "disable_compile" in kwargs:
        return args, {"disable_compile": True, **kwargs}
    given = copy.deepcopy(given)
    given.disable_compile = True
    if "generation_config" in kwargs:
        return args, {**kwargs, "generation_config": given}
    return (args[0], given, *args[2:]), kwargs


def real_tokens(model: Any, tokens: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> torch.Tensor | None:
    """(B, T) bool, False at padding, for token ids (B, T) without an attention mask; None if nothing is padding.

    The mask is inferred as in transformers' `generate`: only if the padding token is known and does not end texts. On a
    GPU a mask without padding is returned too, because looking at it would mean waiting.

    Args:
        model: its `generation_config` supplies what the call leaves out.
        tokens: what it got.
        args, kwargs: those of its `generate`, if that was called.
    """
    pad, ends = (_asked(name, model, args, kwargs or {}) for name in ("pad_token_id", "eos_token_id"))
    if pad is None or not isinstance(tokens, torch.Tensor) or tokens.dim() != 2 or tokens.is_floating_point():
        return None
    if pad in (ends if isinstance(ends, (list, tuple)) else [ends]):
        return None
    kept = tokens != pad
    kept |= ~kept.any(1, keepdim=True)  # a row of padding tokens only is a prompt of that token
    if kept.is_cuda:  # checking whether all are kept would wait for the device
        return kept
    return None if kept.all() else kept
