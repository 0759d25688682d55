"""A model's sizes from its configuration alone: nothing is loaded, neither its weights nor torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..defaults import default_layer
from ..errors import brief, quoted
from . import files
from .gguf_file import check_gguf, header_of
from .json_text import parse
from .packaged import PACKAGED, packaged_file

_MOST_CONFIG = 16 << 20  # bytes; that of a large mixture of experts has a few thousand
# What families call the same thing. The first name that a configuration holds counts.
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_INNER = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
_DEPTH = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_FOURFOLD = ("codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gptj")  # D = 4 d unless they say another
_ALWAYS = ("bloom", "mpt")  # D = 4 d, whatever they say
_HALVED = ("recurrent_gemma",)  # the projection is half as wide as the setting says
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "expert_count")
_TEXT = ("text_config", "llm_config", "language_config", "thinker_config")


@dataclass(frozen=True)
class Sizes:
    """What a memory's cost depends on.

    Attributes:
        architecture: the model's class, or its family where the configuration names no class.
        in_features: D, the edited projection's input width.
        out_features: d, its output width, which is the model's hidden size too.
        layers: the number of decoder layers; layer: the edited one.
        vocabulary: its number of tokens.
    """

    architecture: str
    in_features: int
    out_features: int
    layers: int
    layer: int
    vocabulary: int


def read_config(name: str, revision: str | None = None, token: str | None = None) -> dict[str, Any]:
    """A model's configuration as its file says it. Of a hub id only `config.json` is downloaded.

    Args:
        name: as for `load_model`. revision, token: for a hub id.

    Raises:
        ValueError: there is no such model, or its configuration cannot be read.
    """
    if name in PACKAGED or name.lower().endswith(".gguf"):
        return _of_gguf(header_of(check_gguf(packaged_file(name) if name in PACKAGED else Path(name))))
    path = Path(name) / "config.json" if os.path.isdir(name) else _downloaded(name, revision, token)
    found = parse(files.read_named(path, "model", _MOST_CONFIG), f"model: {path}")
    if not isinstance(found, dict):
        raise ValueError(f"model: {path} is no JSON object, so it is not a model's configuration")
    return found


def sizes_of(config: dict[str, Any], layer: int | None = None, in_features: int | None = None) -> Sizes:
    """The sizes that a configuration tells of.

    Args:
        config: see `read_config`.
        layer: the decoder layer with the memory; negative ones count from the end, None takes the usual one.
        in_features: D, where the user knows it.

    Raises:
        ValueError: a size is missing or is none, there is no such layer, or the layer is a mixture of experts, for which
            only the user can say what is edited.
    """
    text = next((config[name] for name in _TEXT if isinstance(config.get(name), dict)), config)
    if text is not config:  # a thinker has a text model of its own
        text = next((text[name] for name in _TEXT if isinstance(text.get(name), dict)), text)
    kind = str(text.get("model_type") or config.get("model_type") or "")
    layers, hidden = _size(text, _DEPTH, "number of layers"), _size(text, _HIDDEN, "hidden size")
    number = default_layer(layers) if layer is None else layer
    if not -layers <= number < layers:
        raise ValueError(f"layer must be in [{-layers}, {layers - 1}] for this model, got {number}")
    number %= layers
    if in_features is None:
        if any(isinstance(text.get(name), int) and text[name] > 1 for name in _EXPERTS):
            raise ValueError(
                "model: is a mixture of experts, in which a memory stands beside a shared expert or a dense layer: say with in_features how "
                "wide the input of its down projection is"
            )
        in_features = _inner(text, kind, hidden, number)
    named = config.get("architectures")
    architecture = str(named[0]) if isinstance(named, list) and named else kind or "model"
    vocabulary = text.get("vocab_size") or config.get("vocab_size")
    return Sizes(architecture, in_features, hidden, layers, number, vocabulary if type(vocabulary) is int else 0)


def _inner(text: dict[str, Any], kind: str, hidden: int, layer: int) -> int:
    """D of a decoder layer."""
    given = next((text[name] for name in _INNER if text.get(name) is not None), None)
    if kind in _ALWAYS or (given is None and kind in _FOURFOLD):
        return 4 * hidden
    if isinstance(given, list) and len(given) > layer:
        given = given[layer]
    if type(given) is not int or given < 1:
        raise ValueError(
            f"model: its configuration (model_type {quoted(kind)}) says nowhere how wide its FFNs are, none of {', '.join(_INNER)} is a "
            f"number: say with in_features how wide the input of the down projection is"
        )
    return given // 2 if kind in _HALVED else given


def _size(text: dict[str, Any], names: tuple[str, ...], what: str) -> int:
    for name in names:
        if type(text.get(name)) is int and 0 < text[name] < 1 << 32:
            return text[name]
    raise ValueError(f"model: its configuration has no {what}: none of {', '.join(names)} is a number")


def _of_gguf(header: dict[str, Any]) -> dict[str, Any]:
    """A GGUF file's header in the words of a `config.json`."""
    kind = str(header.get("general.architecture", ""))
    names = {
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_hidden_layers": "block_count",
        "vocab_size": "vocab_size",
        "expert_count": "expert_count",
    }
    found = {name: header.get(f"{kind}.{theirs}") for name, theirs in names.items()}
    return {**found, "vocab_size": found["vocab_size"] or header.get("tokenizer.ggml.tokens"), "model_type": kind}


def _downloaded(name: str, revision: str | None, token: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, "config.json", revision=revision, token=token))
    except (OSError, ValueError) as error:  # no such folder or hub id, no network, no permission
        raise ValueError(
            f"model: there is no folder {quoted(name)}, and the hub has no configuration of that name for us: {brief(error)}"
        ) from None
