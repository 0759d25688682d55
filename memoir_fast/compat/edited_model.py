"""What the published editor returns: a model with the same interface as theirs, and an object that restores it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..journal.volatile import VolatileJournal
from ..model import MemoirModel
from .tensors import memory_tensors

# torch's methods that return the module they were called on; called on an `EditedModel`, they return the `EditedModel`.
_CHAINED = ("eval", "train", "to", "cuda", "cpu", "float", "half", "bfloat16", "double", "requires_grad_", "zero_grad")


@dataclass(frozen=True)
class Hasher:
    """TopHash's permutation (D,) int64, how many features there are, and how many it keeps."""

    permutation: torch.Tensor
    top_k: int
    input_dim: int


@dataclass(frozen=True)
class AdapterLayer:
    """The edited projection with the attributes of the published editor's adapter; a snapshot for reading.

    Attributes:
        layer, original_layer: the projection, which editing does not change.
        weight: the projection's weight.
        new_weight: (d, D) float32, the residual memory.
        masks_for_edited_samples: (M, D) bool, one row per edit.
        hasher: see `Hasher`.
        loaded_irrelevant_sample_mean_features: (D,) float32, the background.
    """

    layer: nn.Module
    new_weight: torch.Tensor
    masks_for_edited_samples: torch.Tensor
    hasher: Hasher
    prompt_feature_agg: str
    loaded_irrelevant_sample_mean_features: torch.Tensor

    @property
    def original_layer(self) -> nn.Module:
        return self.layer

    @property
    def weight(self) -> Any:
        return self.layer.weight


class EditedModel:
    """A `MemoirModel` with the published editor's interface; all other attributes are the base model's.

    Attributes:
        memoir: the `MemoirModel`.
    """

    def __init__(self, memoir: MemoirModel):
        self.memoir = memoir

    @property
    def model(self) -> Any:
        """The base model, with the memory attached."""
        return self.memoir.model

    def __call__(self, *args: Any, last_prompt_token_loc_inference: Any = None, **kwargs: Any) -> Any:
        """The forward pass. last_prompt_token_loc_inference: where each prompt ends, an int or one per row."""
        if last_prompt_token_loc_inference is not None:
            tokens = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
            last = torch.as_tensor(last_prompt_token_loc_inference, device=tokens.device).reshape(-1, 1)
            mask = torch.arange(tokens.shape[1], device=tokens.device)[None] <= last
            mask = mask.expand(tokens.shape)
            if kwargs.get("attention_mask") is not None:
                mask = mask & kwargs["attention_mask"].bool()
            kwargs["prompt_mask"] = mask
        return self.memoir(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """transformers' `generate`, with the memory."""
        return self.memoir.generate(*args, **kwargs)

    def get_adapter_layer(self) -> AdapterLayer:
        """A snapshot of the edited projection and of the memory beside it."""
        memory, tensors = self.memoir.memory, memory_tensors(self.memoir)
        hasher = Hasher(tensors["permutation"], memory.top_k, memory.in_features)
        layer = self.model.get_submodule(self.memoir.target.path)
        return AdapterLayer(
            layer, tensors["new_weight"], tensors["masks"], hasher, memory.feature, memory.background.clone()
        )

    def reset_layer(self) -> None:
        """Take every edit back, so that the model answers like the base model."""
        for edit in sorted(self.memoir.edits, reverse=True):
            self.memoir.delete(edit)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The base model's tensors under `model.`, and beside the edited projection's the memory's `new_weight`,
        `masks` and `permutation`, as in `compat.tensors`. It cannot be loaded again; use `save_pretrained` to store a
        memory."""
        place = f"model.{self.memoir.target.path}"
        base = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        return base | {f"{place}.{name}": tensor for name, tensor in memory_tensors(self.memoir).items()}

    def load_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """Raises NotImplementedError, because a memory is more than its tensors."""
        raise NotImplementedError(
            "an edited model is not loaded from a state_dict: keep the memory with model.memoir.save_pretrained(folder), or its tensors "
            "with memoir_fast.compat.tensors.export_memory, and read these"
        )

    def save_pretrained(self, folder: str) -> None:
        """Write the memory to a folder, never the base model; see `MemoirModel.save_pretrained`."""
        self.memoir.save_pretrained(folder)

    def __getattr__(self, name: str) -> Any:
        if name == "memoir":
            raise AttributeError(name)
        found = getattr(self.memoir.model, name)
        return self._chained(found) if name in _CHAINED else found

    def _chained(self, method: Callable[..., Any]) -> Callable[..., EditedModel]:
        def call(*args: Any, **kwargs: Any) -> EditedModel:
            method(*args, **kwargs)
            projection = self.model.get_submodule(self.memoir.target.path)
            self.memoir.memory.to(next((p.device for p in projection.parameters()), self.model.device))
            return self

        return call


class WeightsCopy:
    """Undoes the edits made since it was created: call it, or iterate over `items()` as some versions of EasyEdit do.

    Calling `items()` restores the memory. Base weights were never changed, so the (parameter name, original tensor)
    pairs that it returns need not be written back. Without a memory there is nothing to undo.
    """

    def __init__(self, memoir: MemoirModel | None):
        self._memoir = memoir
        if memoir is None:
            return
        if not isinstance(memoir.journal, VolatileJournal):
            raise ValueError("model: its edits are kept in a store; take them back with delete() or rollback()")
        self._journal, self._mark = memoir.journal, memoir.journal.mark()

    def __call__(self) -> None:
        """Restore."""
        if self._memoir is not None:
            self._journal.return_to(self._mark)

    def items(self) -> list[tuple[str, torch.Tensor]]:
        """Restore, and return the edited projection's own parameters with their present names."""
        if self._memoir is None:
            return []
        self()
        path = self._memoir.target.path
        projection = self._memoir.inner.get_submodule(path)
        return [(f"{path}.{name}", value.detach().clone()) for name, value in projection.named_parameters()]
