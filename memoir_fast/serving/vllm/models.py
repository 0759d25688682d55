"""vLLM's own model classes with a memory beside one projection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from transformers import AutoTokenizer
from vllm.config import get_current_vllm_config
from vllm.distributed import (
    get_tensor_model_parallel_rank,
    get_tensor_model_parallel_world_size,
    tensor_model_parallel_all_gather,
)
from vllm.forward_context import get_forward_context
from vllm.model_executor.layers.linear import LinearMethodBase, RowParallelLinear
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.model_executor.models.mistral import MistralForCausalLM
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM
from vllm.model_executor.models.utils import PPMissingLayer

from ..tables import PREFIX
from .answers import Answers
from .served import Served
from .settings import OPERATIONS
from .shared import Tally
from .steps import install_v1, model_state_v2
from .usage import Usage, most_edits
from .words import ServedWords

# ---- the operation that compiled models contain ------------------------------------------------------------------

_LIBRARY = torch.library.Library("memoir_fast", "FRAGMENT")
_LIBRARY.define("serve_(Tensor(a!) out, Tensor x, str layer) -> ()")
# It changes nothing, but an operation that says so would be left out of a compiled model.
_LIBRARY.define("serve_early_(Tensor(a!) hidden, str layer) -> ()")


def _serve(out: torch.Tensor, x: torch.Tensor, layer: str) -> None:
    get_forward_context().no_compile_layers[layer].read_(out, x)


_LIBRARY.impl("serve_", _serve, "CompositeExplicitAutograd")


@torch.library.register_fake("memoir_fast::serve_", lib=_LIBRARY)
def _(out: torch.Tensor, x: torch.Tensor, layer: str) -> None:
    return None


def _serve_early(hidden: torch.Tensor, layer: str) -> None:
    get_forward_context().no_compile_layers[layer].early(hidden)


_LIBRARY.impl("serve_early_", _serve_early, "CompositeExplicitAutograd")


@torch.library.register_fake("memoir_fast::serve_early_", lib=_LIBRARY)
def _(hidden: torch.Tensor, layer: str) -> None:
    return None


assert OPERATIONS == ("memoir_fast::serve_", "memoir_fast::serve_early_")


class MemoirMethod(LinearMethodBase):
    """A projection's own way of multiplying, and then what the memory adds; before any all-reduce, with LoRA around it."""

    def __init__(self, inner: Any, layer: str):
        self.inner, self.layer = inner, layer

    def create_weights(self, *args: Any, **kwargs: Any) -> None:
        """Never called: the projection was made before the memory came."""
        raise RuntimeError("the projection has its weights already")

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """As the projection's own method does."""
        self.inner.process_weights_after_loading(layer)

    def apply(self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """x (..., D / ranks) to (..., d), in the model's dtype."""
        out = self.inner.apply(layer, x, bias)
        torch.ops.memoir_fast.serve_(out.view(-1, out.shape[-1]), x.view(-1, x.shape[-1]), self.layer)
        return out


class Memoir:
    """Mixin over one of vLLM's causal language models."""

    def __init__(self, *, vllm_config: Any, prefix: str = ""):
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        self.memoir = _attach(self, vllm_config)
        install_v1()

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> Any:
        """The base model's weights as vLLM loads them; the memory's tensors are kept back. Raises ValueError where those are missing."""

        def others() -> Iterator[tuple[str, torch.Tensor]]:
            for name, tensor in weights:
                if not name.startswith(PREFIX):
                    yield name, tensor
                elif self.memoir is not None:
                    self.memoir.take(name, tensor)

        found = super().load_weights(others())  # type: ignore[misc]
        if self.memoir is not None and self.memoir.table is None:
            raise ValueError(
                "the checkpoint holds no memory (memoir.safetensors is missing or incomplete): export it again"
            )
        return found

    def get_model_state_cls(self) -> type:
        """Runner V2's hook."""
        return model_state_v2()


def _attach(model: Any, vllm_config: Any) -> Served | None:
    """Put the memory beside its projection; None where another pipeline stage holds that."""
    settings = vllm_config.model_config.hf_config.memoir
    target = settings["target"]
    number = int(target.split("layers.")[1].split(".")[0])
    layer = model.model.layers[number]
    if isinstance(layer, PPMissingLayer):
        return None
    projection = model.get_submodule(target)
    if not isinstance(projection, RowParallelLinear):
        raise ValueError(
            f"the memory's projection {target} is a {type(projection).__name__} in vLLM, expected RowParallelLinear"
        )
    ranks = get_tensor_model_parallel_world_size()
    device = vllm_config.device_config.device or "cpu"
    served = Served(settings, get_tensor_model_parallel_rank(), ranks, tensor_model_parallel_all_gather, device)
    if served.rank == 0:
        served.tally, served.usage, served.answers = Tally("worker"), Usage(most_edits()), Answers()
    name = f"{target}.memoir"
    get_current_vllm_config().compilation_config.static_forward_context[name] = served
    projection.requires_unquantized_input = True
    projection.quant_method = MemoirMethod(projection.quant_method, name)
    if settings["router"] == "tokens":
        served.words = ServedWords(AutoTokenizer.from_pretrained(vllm_config.model_config.tokenizer))
        _tap(model.model.layers[settings["depth"]].input_layernorm, name)
    return served


def _tap(norm: torch.nn.Module, name: str) -> None:
    """Show the memory the residual stream before a decoder layer, which its first norm adds up."""
    inner = norm.forward

    def forward(x: torch.Tensor, residual: torch.Tensor | None = None) -> Any:
        found = inner(x) if residual is None else inner(x, residual)
        torch.ops.memoir_fast.serve_early_(x if residual is None else found[1], name)
        return found

    norm.forward = forward


class MemoirLlamaForCausalLM(Memoir, LlamaForCausalLM):
    """Llama with a memory."""


class MemoirMistralForCausalLM(Memoir, MistralForCausalLM):
    """Mistral with a memory."""


class MemoirQwen2ForCausalLM(Memoir, Qwen2ForCausalLM):
    """Qwen2 with a memory."""


class MemoirQwen3ForCausalLM(Memoir, Qwen3ForCausalLM):
    """Qwen3 with a memory."""
