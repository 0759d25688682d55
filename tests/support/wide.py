"""Tiny models with the vocabularies of large ones, and the largest tensor that something makes."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM

from memoir_fast.base.running import stored_parts


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that is made inside, forward or backward."""

    def __init__(self, model):
        super().__init__()
        stored = [part for p in model.parameters() for part in stored_parts(p)]
        self.there = {part.untyped_storage().data_ptr() for part in stored}
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in self.there:
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return made


def wide_model(family, vocabulary, dtype=torch.float32):
    """A tiny model with a real vocabulary."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=vocabulary, hidden_size=32, intermediate_size=96, num_hidden_layers=4,
                                  num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=1024, pad_token_id=0,
                                  bos_token_id=1, eos_token_id=2, tie_word_embeddings=True, initializer_range=0.3)  # fmt: skip
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
