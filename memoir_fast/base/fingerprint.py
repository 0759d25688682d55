"""Which base model a memory belongs to: enough to refuse another model, independent of the dtype it is loaded in."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from .causal_lm import CausalLM, text_config
from .projection import Target, find_target


def fingerprint(model: CausalLM, tokenizer: Any, target: Target) -> dict[str, Any]:
    """Architecture, sizes, tokenizer hash and the hash of the target projection's weight, as a JSON-ready mapping.

    The weight's hash is taken of its bfloat16 rounding, and from the source checkpoint where it is on this disk, so that
    one checkpoint has one fingerprint in float32, bfloat16 and quantised to 8 or 4 bits. It is None when neither the
    source nor a floating-point weight is at hand; such a weight is not compared.
    """
    config = text_config(model)
    return {
        "architecture": (getattr(config, "architectures", None) or [type(model).__name__])[0],
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "vocabulary": config.vocab_size,
        "target": target.path,
        "in_features": target.in_features,
        "out_features": target.out_features,
        "tokenizer": _tokenizer_digest(tokenizer),
        "weight": _weight_digest(model, target),
    }


def identity(model: CausalLM, tokenizer: Any, layer: int | str | None = None) -> dict[str, Any]:
    """The base model's own fingerprint, whichever layer carries the memory: that of the default layer, or where this has no single
    projection that of `layer`. What is measured of the model itself is cached by it."""
    try:
        target = find_target(model)
    except ValueError:
        target = find_target(model, layer)
    return fingerprint(model, tokenizer, target)


def of_folder(folder: Path, stored: dict[str, Any]) -> dict[str, Any]:
    """The fingerprint of a checkpoint on this disk, without loading the model: for the projection that `stored` names."""
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(folder)
    text = config.get_text_config()
    weight = _weight_in(folder, stored["target"])
    return {
        "architecture": (getattr(text, "architectures", None) or ["none"])[0],
        "layers": text.num_hidden_layers,
        "hidden_size": text.hidden_size,
        "vocabulary": text.vocab_size,
        "target": stored["target"],
        "in_features": stored["in_features"] if weight is None else weight.shape[1],
        "out_features": stored["out_features"] if weight is None else weight.shape[0],
        "tokenizer": _tokenizer_digest(AutoTokenizer.from_pretrained(folder)),
        "weight": None if weight is None else _digest_of(weight),
    }


def digest(values: dict[str, Any]) -> str:
    """A short name for a fingerprint."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def differing(stored: dict[str, Any], present: dict[str, Any]) -> list[str]:
    """The names of the fields in which two fingerprints differ; a weight that was not at hand is not compared."""
    return [
        name
        for name in present
        if stored.get(name) != present[name] and not (name == "weight" and None in (stored.get(name), present[name]))
    ]


def check(stored: dict[str, Any], present: dict[str, Any]) -> None:
    """Raise ValueError, naming the differing fields, unless a memory of `stored` fits a model of `present`."""
    names = differing(stored, present)
    if names:
        told = ", ".join(f"{name} (memory: {stored.get(name)!r}, model: {present[name]!r})" for name in names)
        raise ValueError(
            f"this memory was written for another base model; they differ in {told}. Load it with "
            "the model that it was made with"
        )


def _tokenizer_digest(tokenizer: Any) -> str:
    vocabulary = sorted(tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps(vocabulary, ensure_ascii=True).encode()).hexdigest()[:32]


def _weight_digest(model: CausalLM, target: Target) -> str | None:
    weight = _source_weight(getattr(model.config, "_name_or_path", ""), target)
    if weight is None:
        weight = getattr(model.get_submodule(target.path), "weight", None)
        if weight is None or not weight.is_floating_point() or weight.dim() != 2 or weight.is_meta:
            return None
    weight = weight.detach()
    if type(weight) not in (torch.Tensor, torch.nn.Parameter) and hasattr(weight, "dequantize"):
        weight = weight.dequantize()  # a quantised tensor subclass has no bits of its own to look at
    return _digest_of(weight)


def _digest_of(weight: torch.Tensor) -> str:
    raw = weight.to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy()
    return hashlib.sha256(raw.tobytes()).hexdigest()[:32]


def _source_weight(source: str, target: Target) -> torch.Tensor | None:
    """The weight as the checkpoint on this disk has it (a local folder, or the hub's cache), or None."""
    folder = Path(source) if source and Path(source).is_dir() else _hub_folder(source)
    return None if folder is None else _weight_in(folder, target.path)


def _weight_in(folder: Path, target: str) -> torch.Tensor | None:
    wanted = f"{target}.weight"
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            # A checkpoint of the bare decoder leaves out the first part of the path (GPT-2's `transformer.`).
            name = next((key for key in file.keys() if key == wanted or wanted.endswith(f".{key}")), None)
            if name is not None:
                tensor = file.get_tensor(name)
                return tensor if tensor.is_floating_point() and tensor.dim() == 2 else None
    return None


def _hub_folder(source: str) -> Path | None:
    if not source or source.count("/") > 1:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source, "config.json")
    return Path(found).parent if isinstance(found, str) else None
