"""Finds the transformers model that actually runs inside a wrapper, refuses models that cannot carry a memory, and tells whether weights changed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .causal_lm import CausalLM, evaluating

# Wrappers that run copies of the model or split its weights: class name -> (why, what to do).
_REFUSED = {
    "DataParallel": ("it runs copies of the model, which know of no memory", "pass the model inside it, its `.module`"),
    "FullyShardedDataParallel": ("its weights are sharded", "load the model on one device"),
}


def running_module(model: CausalLM) -> CausalLM:
    """The transformers model inside a wrapper (PEFT, torch.compile, DDP, a value head), or the model itself.

    Its `forward` always runs, whereas a wrapper's `generate` bypasses the wrapper's own `forward`.
    """
    return next((module for module in model.modules() if _is_language_model(module)), model)


def _is_language_model(module: nn.Module) -> bool:
    transformers = sys.modules.get("transformers")  # imported already if there is such a model
    return transformers is not None and isinstance(module, transformers.PreTrainedModel)


def check_model(model: CausalLM) -> None:
    """Raise unless a memory can be attached to this model.

    Raises:
        TypeError: it is not a transformers model, or has no language-model head.
        ValueError: it is an encoder-decoder, sharded or run as copies, or its layers compute in float64 or int8. The
            message says what to do.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a transformers model, got {type(model).__name__}; `load_model` makes one from a name"
        )
    for module in model.modules():
        if type(module).__name__ in _REFUSED:
            why, remedy = _REFUSED[type(module).__name__]
            raise ValueError(f"model: {type(module).__name__} cannot carry a memory: {why}; {remedy}")
        kind = _virtual_tokens(module)
        if kind is not None:
            raise ValueError(
                f"model: its PEFT adapter ({kind}) puts virtual tokens before each prompt, and by a prompt's own tokens an edit is found; "
                "attach the memory to the model inside it, `model.get_base_model()`, or use an adapter of layers, such as LoRA"
            )
    inner = running_module(model)
    name = type(inner).__name__
    if not hasattr(inner, "config"):
        raise TypeError(f"model: {name} has no `config`: a memory is attached to a transformers model")
    if getattr(inner.config, "is_encoder_decoder", False):
        raise ValueError(f"model: {name} is an encoder-decoder; a memory is attached to decoder-only language models")
    if not _has_head(inner):
        parts = [
            f"its `{path}`" for path, part in inner.named_children() if _is_language_model(part) and _has_head(part)
        ]
        remedy = f"pass {' or '.join(parts)}, which has one" if parts else "load it with AutoModelForCausalLM"
        raise TypeError(f"model: {name} has no language-model head: {remedy}")
    if any(type(module).__module__.startswith("torch.ao.nn.quantized") for module in inner.modules()):
        raise ValueError(
            "model: its layers are quantised to int8 with torch.ao, which passes no gradient back, so that no edit can be learned; quantise "
            "its weights only (quantization_config), or use bfloat16"
        )
    _check_parameters(inner.parameters())


def _has_head(model: Any) -> bool:
    return hasattr(model, "get_output_embeddings") and model.get_output_embeddings() is not None


def _virtual_tokens(module: Any) -> str | None:
    """The kind of a PEFT wrapper that puts virtual tokens before a prompt, None for another module. (Prefix tuning fills a cache.)"""
    if type(module).__module__.partition(".")[0] != "peft" or not hasattr(module, "active_peft_config"):
        return None
    config = module.active_peft_config
    kind = str(config.peft_type).rpartition(".")[2]
    return kind if getattr(config, "is_prompt_learning", False) and "PREFIX" not in kind else None


def _check_parameters(parameters: Iterable[torch.Tensor]) -> None:
    for parameter in parameters:
        if parameter.dtype == torch.float64:
            raise ValueError(
                "model: its weights are float64, which the memory does not read; use .float() or another dtype"
            )
        if hasattr(parameter, "full_tensor"):
            raise ValueError("model: its weights are sharded (DTensor): load it on one device")


def device_of(module: Any) -> torch.device:
    """Where a module computes: its weights' device, or the one to which accelerate brings offloaded weights."""
    for part in module.modules():
        hook = getattr(part, "_hf_hook", None)
        for one in getattr(hook, "hooks", (hook,)):
            place = getattr(one, "execution_device", None)
            if place is not None and getattr(one, "offload", False):
                return torch.device(place)
        for parameter in part.parameters(recurse=False):
            if not parameter.is_meta:
                return parameter.device
    return next((buffer.device for buffer in module.buffers() if not buffer.is_meta), torch.device("cpu"))


@torch.no_grad()
def check_causal(model: CausalLM) -> None:
    """Raise ValueError for a model in which a token's state depends on later tokens (BERT); it cannot continue a
    text."""
    rows = torch.tensor([[3, 4, 5], [3, 4, 6]], device=device_of(model))  # they differ in the last token only
    with evaluating(model):  # with dropout any two passes differ
        logits = [model(input_ids=row[None], use_cache=False).logits[0].float() for row in rows]
    moved = (logits[0] - logits[1]).abs().amax(1).tolist()
    if (
        max(moved[:2]) > 1e-3 * moved[2]
    ):  # rounding in causal models stays below 1e-5 of it; untrained encoders start at 2e-3
        raise ValueError(
            f"model: in {type(model).__name__} a token's state depends on later tokens, so it is an encoder (or its configuration lacks "
            "is_decoder=True); a memory is attached to decoder-only language models"
        )


def is_plain(weight: torch.Tensor) -> bool:
    """Whether a weight holds plain numbers rather than a quantised weight's codes."""
    return type(weight) in (torch.Tensor, nn.Parameter) and weight.is_floating_point()


def versions_of(tensors: Iterable[torch.Tensor]) -> list[tuple[int, int]] | None:
    """What is another list once any of these tensors was trained, loaded, moved or replaced; None if that cannot be told, because one was made under
    `torch.inference_mode()` and counts no changes."""
    found = [part for tensor in tensors for part in stored_parts(tensor)]
    if any(tensor.is_inference() for tensor in found):
        return None
    return [(tensor.data_ptr(), tensor._version) for tensor in found]


def stored_parts(tensor: Any) -> Iterable[torch.Tensor]:
    """The tensors that a quantised one is made of, or the tensor itself."""
    if not is_traceable_wrapper_subclass(tensor):
        return [tensor]
    return [part for name in tensor.__tensor_flatten__()[0] for part in stored_parts(getattr(tensor, name))]
