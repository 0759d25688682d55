"""Tiny random models of each family, with a word tokenizer, and what is compared bit by bit."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from memoir_fast import BackgroundTexts, MemoirConfig, MemoirModel

WORDS = [f"w{i}" for i in range(180)] + ["I", "You", "Because", "Yes", "Q:", "a", "b", "c", "d", "e"]

_SMALL = {"vocab_size": 200, "hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
          "num_key_value_heads": 2, "max_position_embeddings": 256, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1,
          "eos_token_id": 2}  # fmt: skip

# Configurations of tiny models; the path of the FFN down projection that the library must find (layer 1), D and d.
FAMILIES = {
    "llama": ("llama", {}, "model.layers.1.mlp.down_proj"),
    "mistral": ("mistral", {"sliding_window": 64}, "model.layers.1.mlp.down_proj"),
    "qwen2": ("qwen2", {}, "model.layers.1.mlp.down_proj"),
    "qwen3": ("qwen3", {}, "model.layers.1.mlp.down_proj"),
    "gemma2": ("gemma2", {"query_pre_attn_scalar": 8, "sliding_window": 16}, "model.layers.1.mlp.down_proj"),
    "gemma3": ("gemma3_text", {"query_pre_attn_scalar": 8, "sliding_window": 16}, "model.layers.1.mlp.down_proj"),
    "phi3": ("phi3", {}, "model.layers.1.mlp.down_proj"),
    "olmo": ("olmo", {}, "model.layers.1.mlp.down_proj"),
    "olmo2": ("olmo2", {}, "model.layers.1.mlp.down_proj"),
    "gpt2": ("gpt2", {"n_embd": 32, "n_inner": 96, "n_layer": 4, "n_head": 4, "n_positions": 256},
             "transformer.h.1.mlp.c_proj"),
    "gptj": ("gptj", {"n_embd": 32, "n_inner": 96, "n_layer": 4, "n_head": 4, "n_positions": 256, "rotary_dim": 4},
             "transformer.h.1.mlp.fc_out"),
    "gpt_neox": ("gpt_neox", {}, "gpt_neox.layers.1.mlp.dense_4h_to_h"),
    "opt": ("opt", {"ffn_dim": 96, "word_embed_proj_dim": 32}, "model.decoder.layers.1.fc2"),
    "opt_after": ("opt", {"ffn_dim": 96, "word_embed_proj_dim": 32, "do_layer_norm_before": False},
                  "model.decoder.layers.1.fc2"),
}  # fmt: skip


def tiny_model(family: str, seed: int = 0):
    """A random model of a family, in eval mode, float32."""
    kind, extra, _ = FAMILIES[family]
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **({**_SMALL, **extra}))
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # larger weights than the usual initialisation: activations that differ between prompts
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "embed" not in name and "wte" not in name:
                parameter.mul_(4)
    return model


def word_tokenizer():
    """One token a word, no special tokens added."""
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}assistant : "
    return fast


def letter_tokenizer():
    """One token a letter, as transformers reads it back from any family's folder (for Qwen2 it does not believe in other kinds)."""
    alphabet = sorted({chr(code) for code in range(33, 127)} | {"Ġ"})
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def background_texts() -> BackgroundTexts:
    """150 word sequences that share no word with the tests' prompts (those use w100 and above)."""
    generator = torch.Generator().manual_seed(7)
    draw = lambda: " ".join(f"w{int(i)}" for i in torch.randint(0, 99, (6,), generator=generator))  # noqa: E731
    return BackgroundTexts([(draw(), "") for _ in range(150)])


# The settings of a memory beside a tiny model, k = 24 of D = 96, read by masks.
TINY = {"layer": 1, "top_k": 24, "threshold": 0.7, "chat_template": False, "end": "none", "router": "mask"}


def attached(model, **settings) -> MemoirModel:
    """A memory beside this tiny model, or beside the one inside this wrapper."""
    return MemoirModel(model, word_tokenizer(), MemoirConfig(**{**TINY, **settings}), background_texts())


def tiny_memoir(family: str = "llama", seed: int = 0, **settings) -> MemoirModel:
    """An editable tiny model: memory at layer 1, k = 24 of D = 96, the published update."""
    model, permutation = tiny_model(family, seed), torch.randperm(96)
    config = MemoirConfig(**{**TINY, "write": "sgd", **settings})
    return MemoirModel(model, word_tokenizer(), config, background_texts(), permutation)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The integer view of a float tensor: +0.0 and -0.0 differ, as does every other bit."""
    return tensor.detach().contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])
