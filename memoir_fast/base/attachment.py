"""Attaches a memory to a model's projection with hooks only, so that the model stays the Hugging Face model that it is.

No module is replaced and no parameter touched: while a memory is attached, `state_dict`, `save_pretrained`,
`push_to_hub` and a trainer's checkpoints are the base model's. Detaching removes exactly what attaching added. The
model's `generate` is observed like its `forward`, so a pipeline, a wrapper or a direct call goes the same way as
`MemoirModel.generate`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from .causal_lm import CausalLM
from .compiling import refuse_to_be_traced
from .projection import Target, layers_of
from .running import running_module


class Observer(Protocol):
    """Gets a model's forward passes."""

    def before(self, model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        """A forward pass of the model begins. May return replacement arguments."""

    def after(self, model: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        """The forward pass has ended, possibly with an exception."""

    def early(self, hidden: torch.Tensor) -> None:
        """The early decoder layer is about to run on `hidden` (B, T, d), the output of the layer before it."""

    def project(self, projection: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor | None:
        """The projection turned `x` (..., D) into `out` (..., d). May return a replacement for `out`."""

    def generate(self, model: nn.Module, original: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """The model's `generate` was called. Calls `original(*args, **kwargs)`, or raises."""


class _Hook:
    """A callable that cannot be copied, because a copy of the model would use this model's memory."""

    def __init__(self, function: Callable[..., Any], attachment: Attachment):
        self.function, self.attachment = torch.compiler.disable(function), attachment
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            refuse_to_be_traced()
        return self.function(*args, **kwargs)

    def __deepcopy__(self, memo: dict) -> None:
        raise TypeError(
            "the model cannot be copied or pickled while a memory is attached: call detach(), copy it, and attach again "
            "(state_dict() and save_pretrained() work as they are, and hold the base model)"
        )

    def __reduce__(self) -> Any:
        return self.__deepcopy__({})


class Attachment:
    """Connects an observer to a model; a context manager.

    Args:
        model: a Hugging Face causal language model; if it is in a wrapper, the model inside (see `running_module`).
        target: the projection.
        observer: gets the model's forward passes.
        depth: the number of the decoder layer whose input `Observer.early` gets, at most the projection's; None for
            none.
        outer: what the model is wrapped in, None for nothing. PEFT's wrappers (below 0.21) call the model's `forward`
            past its hooks, so under one of them `forward` itself is observed.
    """

    def __init__(
        self,
        model: CausalLM,
        target: Target,
        observer: Observer,
        depth: int | None = None,
        outer: CausalLM | None = None,
    ):
        self.model, self.target, self.observer, self.depth = model, target, observer, depth
        self._past_hooks = outer is not None and _is_called_past_hooks(model, outer)
        self._within: ContextVar[int] = ContextVar("memoir_fast_passes", default=0)
        self._forward: Any = None
        self._handles: list[RemovableHandle] = []

    @property
    def attached(self) -> bool:
        """Whether the hooks are in place."""
        return bool(self._handles)

    def attach(self) -> None:
        """Put the hooks in place, if they are not. Raises ValueError if another memory is attached to the model.

        Everything that torch has compiled is compiled again afterwards, because compiled code would ignore the new
        hooks.
        """
        if self.attached:
            return
        if attachment_of(self.model) is not None:
            raise ValueError("model: it carries a memory already; detach that one first, or edit it")
        model, observer = self.model, self.observer
        projection = _innermost(model.get_submodule(self.target.path))
        head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        try:
            self._handles += [
                model.register_forward_pre_hook(_Hook(observer.before, self), with_kwargs=True),
                model.register_forward_hook(_Hook(observer.after, self), with_kwargs=True, always_call=True),
                projection.register_forward_hook(_Hook(self._project, self)),
            ]
            if self.depth is not None:
                early = layers_of(model, self.target)[self.depth]
                self._handles.append(early.register_forward_pre_hook(_Hook(self._early, self), with_kwargs=True))
            if head is not None:
                self._handles.append(head.register_forward_pre_hook(contiguous_input))
            if self._past_hooks:
                self._observe_forward()
            if hasattr(model, "generate"):
                model.generate = _Hook(_observed(model, observer), self)
            _forget_compiled()
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """Remove the hooks, if they are in place."""
        if self._handles and isinstance(self.model.__dict__.get("generate"), _Hook):
            del self.model.generate
            _forget_compiled()
        if isinstance(self.model.__dict__.get("forward"), _Hook):
            del self.model.forward
            if self._forward is not None:  # another's, which stood on the model before (accelerate's)
                self.model.forward = self._forward
        while self._handles:
            self._handles.pop().remove()

    def __enter__(self) -> Attachment:
        self.attach()
        return self

    def __exit__(self, *error: object) -> None:
        self.detach()

    def _observe_forward(self) -> None:
        """Let whoever calls the model's `forward` by itself come by its hooks as well."""
        model, within = self.model, self._within
        self._forward = model.__dict__.get("forward")
        original = model.forward

        def entered(module: nn.Module, args: tuple) -> None:
            within.set(within.get() + 1)

        def left(module: nn.Module, args: tuple, output: Any) -> None:
            within.set(within.get() - 1)

        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **kwargs) if within.get() else model(*args, **kwargs)

        self._handles.append(model.register_forward_pre_hook(entered))
        self._handles.append(model.register_forward_hook(left, always_call=True))
        model.forward = _Hook(forward, self)

    def _early(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self.observer.early(args[0] if args else kwargs["hidden_states"])

    def _project(self, module: nn.Module, args: tuple, out: torch.Tensor) -> torch.Tensor | None:
        return self.observer.project(module, args[0], out)


class Attached:
    """The attaching methods of an object that has an attachment; `MemoirModel` inherits this.

    Attributes:
        model: the model.
        attachment: connects it to the memory.
    """

    model: Any
    attachment: Attachment

    def attach(self) -> None:
        """Attach the memory, if it is not attached. Raises ValueError if another memory is attached to the model."""
        self.attachment.attach()

    def detach(self) -> Any:
        """Detach the memory, if it is attached, and return the base model exactly as it was."""
        self.attachment.detach()
        return self.model

    def __reduce__(self) -> Any:
        raise TypeError(
            "a MemoirModel cannot be copied or pickled: save_pretrained() writes the memory, from_pretrained() reads it"
        )


def attachment_of(model: CausalLM) -> Attachment | None:
    """The attachment whose hooks a model carries, or None."""
    hooks = running_module(model)._forward_pre_hooks.values()
    return next((hook.attachment for hook in hooks if isinstance(hook, _Hook)), None)


def _innermost(projection: nn.Module) -> nn.Module:
    """The projection inside its adapters, which stays in the model when they are merged or unloaded."""
    inner: Any = projection
    while isinstance(getattr(inner, "base_layer", None), nn.Module):
        inner = inner.base_layer
    return inner


def _is_called_past_hooks(model: CausalLM, outer: CausalLM) -> bool:
    """Whether a model is the one inside PEFT's wrapper `outer`."""
    return any(type(part).__module__.split(".")[0] == "peft" and part is not model for part in outer.modules()
               if getattr(part, "model", None) is model)  # fmt: skip


def _observed(model: CausalLM, observer: Observer) -> Callable[..., Any]:
    """The model's `generate`, called through the observer."""
    original = model.generate

    @functools.wraps(original)
    def generate(*args: Any, **kwargs: Any) -> Any:
        return observer.generate(model, original, args, kwargs)

    return generate


def _forget_compiled() -> None:
    if "torch._dynamo" in sys.modules:  # otherwise nothing was compiled
        torch.compiler.reset()


def contiguous_input(module: nn.Module, args: tuple) -> tuple:
    """A hook for the output embeddings that makes their input contiguous.

    The last position of each sequence is a strided slice. Torch multiplies it with a frozen matrix sequence by
    sequence, which for a batch of eight takes twice as long as one product of a copy.
    """
    return tuple(a.contiguous() if isinstance(a, torch.Tensor) else a for a in args)
