"""What the library takes for a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, TypeAlias

# A Hugging Face causal language model, or a wrapper (PEFT) around one. Its attributes depend on its class, and `nn.Module` says of each
# that it is a tensor or a module, so checkers are told nothing.
CausalLM: TypeAlias = Any


@contextlib.contextmanager
def evaluating(model: CausalLM) -> Iterator[None]:
    """In eval mode, whatever mode each of its modules is in; given back after."""
    # `model.eval()` sets every module, which takes as long as two steps of a small model; mostly there is nothing to set.
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def text_config(model: CausalLM) -> Any:
    """The text decoder's part of a model's configuration."""
    return model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
