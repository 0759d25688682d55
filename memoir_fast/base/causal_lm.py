"""What the library takes for a model."""

from __future__ import annotations

from typing import Any, TypeAlias

# A Hugging Face causal language model, or a wrapper (PEFT) around one. Its attributes depend on its class, and `nn.Module` says of each
# that it is a tensor or a module, so checkers are told nothing.
CausalLM: TypeAlias = Any


def text_config(model: CausalLM) -> Any:
    """The text decoder's part of a model's configuration."""
    return model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
