"""Models of the shapes that people edit, with random weights made in memory: nothing is downloaded. Used by `bigmodel.py`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from benchmarks.library import checkpoint_folder


@dataclass(frozen=True)
class Shape:
    """A model's configuration.

    Attributes:
        family: transformers' model type. settings: its configuration.
        layer: the decoder layer with the memory; None for the library's choice.
        about: what a reader should know of it.
    """

    family: str
    settings: dict[str, Any]
    layer: int | None = None
    about: str = ""


_LLAMA3 = {"vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_attention_heads": 32, "num_key_value_heads": 8,
           "max_position_embeddings": 8192, "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}}  # fmt: skip
_QWEN3 = {"vocab_size": 151_936, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16,
          "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40_960, "tie_word_embeddings": True,
          "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}  # fmt: skip
_GEMMA3 = {"vocab_size": 262_144, "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26, "num_attention_heads": 4,
           "num_key_value_heads": 1, "head_dim": 256, "max_position_embeddings": 32_768, "tie_word_embeddings": True}  # fmt: skip
_TINYLLAMA = {"vocab_size": 32_000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
              "num_key_value_heads": 4, "max_position_embeddings": 2048}  # fmt: skip
# The four layers above the memory are as many as the whole model has above its layer 27 of 32.
_CUT = "8 of its 32 layers; the memory is in the fourth, with as many layers above it as in the whole model"

SHAPES = {
    "tinyllama-1.1b": Shape("llama", _TINYLLAMA),
    "qwen3-1.7b": Shape("qwen3", _QWEN3, about="tied embeddings"),
    "llama3-8b/8": Shape("llama", {**_LLAMA3, "num_hidden_layers": 8}, layer=3, about=_CUT),
    "llama3-8b": Shape("llama", {**_LLAMA3, "num_hidden_layers": 32}, about="the whole model, 16 GB"),
    "gemma3-1b": Shape("gemma3_text", _GEMMA3, about="tied embeddings; edited through the model's own code"),
    "tiny": Shape("llama", {**_TINYLLAMA, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
                            "num_key_value_heads": 2, "initializer_range": 0.2}, layer=1, about="for the tests"),
}  # fmt: skip


def config_of(shape: Shape) -> Any:
    """The shape as a transformers configuration. Token 2 ends a text, as in SmolLM2's tokenizer."""
    return AutoConfig.for_model(shape.family, **shape.settings, bos_token_id=1, eos_token_id=2, pad_token_id=2)


def make_model(shape: Shape, dtype: torch.dtype, seed: int = 0) -> Any:
    """A model with random weights, as transformers draws them, in eval mode."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config_of(shape), dtype=dtype).eval()


def below_on_disk(model: Any, folder: Path, layer: int) -> Any:
    """The same model from a checkpoint, with its embedding and the layers up to the one with the memory left on the disk: each pass reads them there.

    Args:
        model: it is written to the folder and should be forgotten then. layer: the number of the layer with the memory.
    """
    dtype, depth, tied = model.dtype, len(model.model.layers), model.config.tie_word_embeddings
    model.save_pretrained(folder)
    places = {f"model.layers.{number}": "disk" if number <= layer else "cpu" for number in range(depth)}
    places |= {
        "model.embed_tokens": "cpu" if tied else "disk",
        "model.norm": "cpu",
        "model.rotary_emb": "cpu",
        "lm_head": "cpu",
    }
    kept = folder / "offloaded"
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map=places, offload_folder=kept).eval()


def tokenizer_for(vocabulary: int) -> Any:
    """SmolLM2's tokenizer, its chat template with it; for a smaller vocabulary its first tokens and the merges that make them."""
    whole = AutoTokenizer.from_pretrained(checkpoint_folder("smollm2"))
    if len(whole) <= vocabulary:
        return whole
    described = json.loads(whole.backend_tokenizer.to_str())
    parts = described["model"]
    parts["vocab"] = {token: number for token, number in parts["vocab"].items() if number < vocabulary}
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in parts["merges"]]
    parts["merges"] = [pair for pair in pairs if "".join(pair) in parts["vocab"]]
    cut = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(described)),
        bos_token=whole.bos_token,
        eos_token=whole.eos_token,
        pad_token=whole.pad_token,
        unk_token=whole.unk_token,
    )
    cut.chat_template = whole.chat_template
    return cut
