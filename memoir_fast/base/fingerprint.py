"""Fingerprints of base models: enough to refuse a memory of another model, whatever dtype the model is loaded in."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..errors import quoted
from .causal_lm import CausalLM, text_config
from .projection import Target, find_target, own_path
from .running import is_plain

_HASHES = ("weight", "tokenization", "parts")
_OF_THE_WHOLE = ("tokenizer", "tokenization", "chat_template", "parts")
_LINE = 4096  # numbers that are summed together
_LINES = 1024  # lines of them at a time
_QUANTISED = 0.3  # largest relative distance of a quantised weight from its source; 4 bits stay within 0.15
# Texts that tokenizers' settings treat differently: case, accents, blanks, digits, marks, scripts, special tokens.
_TEXTS = (
    "", "Hello, World", " hello  world ", "HELLO world's don't", "a\tb\nc\r\n\n d", "1234567 3.14 -5 50% $7", "Zürich café nai\u0308ve \u00c5",
    "\ufb01 \u2028 \u00a0 \u200b", "漢字かな 한국어 עברית عربي", "Ω≈ç√ ☃ 😀👩‍🚀", "<s> </s> <|im_start|> <|endoftext|> [CLS] <unk>", "def f(x):\n    return x",
)  # fmt: skip


def fingerprint(model: CausalLM, tokenizer: Any, target: Target, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Architecture, sizes, tokenizer hashes and weight hashes, as a JSON-ready mapping.

    Weights are hashed after rounding to bfloat16, so that a checkpoint has the same fingerprint in float32 and
    bfloat16. For a float16 or quantised model, `weight` is the hash of the source checkpoint's weight, if that is on
    this disk and the loaded one comes from it; its other weights (`parts`) are then not compared.

    Args:
        known: this model's fingerprint for another projection; hashes that do not depend on the projection are taken
            from it.
    """
    config = text_config(model)
    if known is None:
        whole = {**_tokenizer_digests(tokenizer), "parts": _parts(model, target)}
    else:
        whole = {name: known[name] for name in _OF_THE_WHOLE}
    return {
        "architecture": (getattr(config, "architectures", None) or [type(model).__name__])[0],
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "vocabulary": config.vocab_size,
        "target": target.path,
        "in_features": target.in_features,
        "out_features": target.out_features,
        "weight": _weight_digest(model, target),
        **whole,
    }


def identity(
    model: CausalLM, tokenizer: Any, layer: int | str | None = None, known: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The base model's own fingerprint, whichever layer carries the memory. Measurements of the model are cached by it.

    It is the fingerprint for the default layer or, if that has no single projection, for `layer`. known: see
    `fingerprint`. Raises ValueError as `find_target`.
    """
    try:
        target = find_target(model)
    except ValueError:
        target = find_target(model, layer)
    return fingerprint(model, tokenizer, target, known)


def of_folder(folder: Path, stored: dict[str, Any]) -> dict[str, Any]:
    """The fingerprint of a checkpoint on this disk for the projection that `stored` names, without loading the
    model."""
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
        "weight": None if weight is None else _digest_of(weight),
        **_tokenizer_digests(AutoTokenizer.from_pretrained(folder)),
        "parts": {},  # a checkpoint's names can differ from the model's
    }


def digest(values: dict[str, Any]) -> str:
    """A fingerprint's digest, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def measured_key(model: CausalLM, values: dict[str, Any]) -> str:
    """The name under which measurements of a model are cached: the digest of its fingerprint or identity `values` and, as two quantised
    forms of one checkpoint have the same, of how it is quantised. 16 hexadecimal digits."""
    quantised = getattr(model.config, "quantization_config", None)
    if quantised is None:
        return digest(values)
    told = quantised if isinstance(quantised, dict) else quantised.to_dict()
    return digest({**values, "quantised": json.dumps(told, sort_keys=True, default=repr)})


def differences(stored: dict[str, Any], present: dict[str, Any]) -> list[str]:
    """How two models differ, as phrases that name the fields; empty if a memory of one fits the other.

    A hash that one of them lacks is not compared: it could not be taken, or the fingerprint is from an earlier version.
    """
    found = []
    for name in present:
        one, other = stored.get(name), present[name]
        if name == "parts":
            one, other = one or {}, other or {}
            both = sorted(part for part in set(one) & set(other) if None not in (one[part], other[part]))
            parts = [part for part in both if one[part] != other[part]]
            if parts:
                found.append(f"the weights of {', '.join(parts[:5])}{' and others' if len(parts) > 5 else ''}")
        elif one != other and name not in ("chat_template",) and not (name in _HASHES and None in (one, other)):
            found.append(f"{name} (memory: {quoted(one)}, model: {quoted(other)})")
    return found


def check(stored: dict[str, Any], present: dict[str, Any]) -> None:
    """Raise ValueError, naming the differing fields, unless a memory of `stored` fits a model of `present`. If only the
    chat template differs, warn."""
    if "target" in stored:  # earlier versions stored the path inside the wrapper
        stored = {**stored, "target": own_path(stored["target"])}
    differing = differences(stored, present)
    if differing:
        raise ValueError(
            f"this memory was written for another base model; they differ in {', '.join(differing)}. Load it with "
            "the model that it was made with"
        )
    if None not in (stored.get("chat_template"), present.get("chat_template")):
        if stored["chat_template"] != present["chat_template"]:
            warnings.warn(
                "the tokenizer's chat_template is not the one that this memory was made with: chats reach the model as "
                "other tokens, so edits may be missed or answered differently",
                stacklevel=3,
            )


def check_sizes(stored: dict[str, Any], config: Any) -> None:
    """`check` with a model's configuration alone, before its weights are loaded: compares what the configuration
    holds."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    told = {"layers": "num_hidden_layers", "hidden_size": "hidden_size", "vocabulary": "vocab_size"}
    present = {name: getattr(text, field, stored.get(name)) for name, field in told.items()}
    architecture = getattr(text, "architectures", None) or [stored.get("architecture")]
    check({name: stored.get(name) for name in ("architecture", *told)}, {"architecture": architecture[0], **present})


def _tokenizer_digests(tokenizer: Any) -> dict[str, str | None]:
    """Digests of a tokenizer: "tokenizer", of its vocabulary; "tokenization", of the tokens of varied texts, which
    shows settings that change tokens; "chat_template", of the template, None if there is none."""
    vocabulary = sorted(tokenizer.get_vocab().items())
    words = [word for word, _ in vocabulary[:: max(1, len(vocabulary) // 100)]]
    texts = [*_TEXTS, *words, *map(str.upper, words), " " + "  ".join(words)]
    ids = [[tokenizer(text, add_special_tokens=special)["input_ids"] for text in texts] for special in (True, False)]
    template = getattr(tokenizer, "chat_template", None)
    return {
        "tokenizer": _digest_text(vocabulary),
        "tokenization": _digest_text(ids),
        "chat_template": None if template is None else _digest_text(template),
    }


def _digest_text(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=True, sort_keys=True).encode()).hexdigest()[:32]


def _weight_digest(model: CausalLM, target: Target) -> str | None:
    """The digest of the projection's weight as it is loaded. If its dtype rounds differently from bfloat16, the digest
    of the source checkpoint's weight, provided that the loaded one comes from it."""
    loaded = getattr(model.get_submodule(target.path), "weight", None)
    if not isinstance(loaded, torch.Tensor):  # some quantised modules have a method of that name
        loaded = None
    if loaded is not None and loaded.is_meta:
        return None
    if loaded is not None and is_plain(loaded) and loaded.dim() == 2 and loaded.dtype != torch.float16:
        return _digest_of(loaded.detach())
    source = _source_weight(getattr(model.config, "_name_or_path", ""), target)
    found = None
    if loaded is not None and loaded.dim() == 2:
        found = (
            loaded.detach().dequantize() if hasattr(loaded, "dequantize") and not is_plain(loaded) else loaded.detach()
        )
        found = found if found.is_floating_point() else None
    if source is None or found is None or loaded is None or found.shape != source.shape:
        weight = source if found is None else found
        return None if weight is None else _digest_of(weight)
    one, other = found.to("cpu", torch.float32), source.float()
    near = float((one - other).norm()) <= _QUANTISED * float(other.norm())
    same = torch.equal(found.cpu(), source.to(found.dtype)) if is_plain(loaded) else near
    return _digest_of(source if same else found)


def _parts(model: CausalLM, target: Target) -> dict[str, str | None]:
    """Hashes of all weights in bfloat16, per decoder layer and per module outside the layers. None where some weights
    are float16 or quantised, since these round differently."""
    found: dict[str, Any] = {}
    prefix = f"{target.layers_path}."
    adapted = [
        f"{path}."
        for path, module in model.named_modules()
        if isinstance(getattr(module, "base_layer", None), torch.nn.Module)
    ]
    for name, weight in model.named_parameters():
        if any(name.startswith(path) and not name.startswith(f"{path}base_layer.") for path in adapted):
            continue  # an adapter's weight: a memory fits the base model with or without adapters
        name = name.replace(".base_layer.", ".")
        inside = name.startswith(prefix)
        part = f"layer {name[len(prefix) :].split('.')[0]}" if inside else name.rpartition(".")[0]
        if weight.is_meta or not is_plain(weight) or weight.dtype == torch.float16:
            found[part] = None
        elif found.setdefault(part, hashlib.sha256()) is not None:
            found[part].update(name.encode() + _sums(weight.detach()))
    return {part: None if made is None else made.hexdigest()[:16] for part, made in found.items()}


def _sums(weight: torch.Tensor) -> bytes:
    """Integer sums of a weight's bits along two directions, on its own device; as fast as its memory can be read."""
    numbers = weight.contiguous().view(-1)
    lines = len(numbers) // _LINE
    down, across = torch.zeros(_LINE, dtype=torch.int64, device=weight.device), []
    for start in range(0, lines, _LINES):  # torch sums int16 in a copy in int64, four times as large as the numbers
        some = _bits(numbers[start * _LINE : min(start + _LINES, lines) * _LINE]).view(-1, _LINE)
        down += some.sum(0, dtype=torch.int64)
        across.append(some.sum(1, dtype=torch.int64))
    rest = _bits(numbers[lines * _LINE :])
    return b"".join(part.cpu().numpy().tobytes() for part in (down, *across, rest))


def _bits(numbers: torch.Tensor) -> torch.Tensor:
    """Numbers rounded to bfloat16, as int16."""
    return numbers.to(torch.bfloat16).view(torch.int16)


def _digest_of(weight: torch.Tensor) -> str:
    raw = weight.to("cpu", torch.bfloat16).contiguous().view(-1).view(torch.uint8).numpy()
    return hashlib.sha256(raw.data).hexdigest()[:32]


def _source_weight(source: str, target: Target) -> torch.Tensor | None:
    """The weight in the checkpoint on this disk (a local folder or the hub's cache), or None."""
    folder = Path(source) if source and Path(source).is_dir() else _hub_folder(source)
    return None if folder is None else _weight_in(folder, target.path)


def _weight_in(folder: Path, target: str) -> torch.Tensor | None:
    wanted = f"{target}.weight"
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            # A checkpoint of the decoder alone leaves out the first part of the path (GPT-2's `transformer.`).
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
