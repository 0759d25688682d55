"""What the library accepts as a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, TypeAlias

# A Hugging Face causal language model, or a wrapper (PEFT) around one. The type is Any because its attributes depend on
# its class, while type checkers take every attribute of an `nn.Module` for a tensor or a module.
CausalLM: TypeAlias = Any


@contextlib.contextmanager
def evaluating(model: CausalLM) -> Iterator[None]:
    """Put a model in eval mode; afterwards each module is in its former mode."""
    # `model.eval()` visits every module, which takes as long as two steps of a small model; usually none needs a
    # change.
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
