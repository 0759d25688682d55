"""Attaches a memory to a model's projection, so that the model stays the Hugging Face model that it is.

No module is replaced and no parameter touched: while a memory is attached, `state_dict`, `save_pretrained`,
`push_to_hub` and a trainer's checkpoints are the base model's. Hooks observe the forward pass; a function in the place
of the model's `generate` lets a pipeline, a wrapper or a direct call go the same way as `MemoirModel.generate`, another refuses
continuous batching, and inside PEFT's wrappers another stands in the place of its `forward`. Detaching removes exactly what attaching added.
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
from .passes import Pass
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
        functools.update_wrapper(self, function)  # first: the function may bear another hook's attributes
        self.function, self.attachment = torch.compiler.disable(function), attachment

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
        outer: what the model is wrapped in, None for nothing. Inside PEFT's wrappers, of whatever version, `forward`
            itself is observed as well, because those of PEFT below 0.21 call it past the model's hooks.
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
        self._in_peft = outer is not None and _is_in_peft(model, outer)
        self._entered: ContextVar[Pass | None] = ContextVar("memoir_fast_entered", default=None)
        self._observed: object = None  # what is new with each attaching that observes `forward`
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
            if self._in_peft:
                self._observe_forward()
            if hasattr(model, "generate"):
                model.generate = _Hook(_observed(model, observer), self)
            if hasattr(model, "init_continuous_batching"):
                model.init_continuous_batching = _Hook(_refused_batching, self)
            _forget_compiled()
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """Remove the hooks, if they are in place."""
        if self._handles and isinstance(self.model.__dict__.get("generate"), _Hook):
            del self.model.generate
            _forget_compiled()
        if isinstance(self.model.__dict__.get("init_continuous_batching"), _Hook):
            del self.model.init_continuous_batching
        self._observed = None
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
        """Let whoever calls the model's `forward` by itself come by its hooks as well.

        The model's call notes just before it calls `forward` that it has come by the hooks. The note holds for this one
        time, and no longer than the call runs, however that ends.
        """
        model, by_hooks = self.model, self._entered
        self._forward = model.__dict__.get("forward")
        self._observed = observed = object()
        original = model.forward

        def entered(module: nn.Module, args: tuple) -> None:
            by_hooks.set(Pass())

        @functools.wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            call = by_hooks.get()
            by_hooks.set(None)
            # Detached, this may still be what another wrapped meanwhile (accelerate's hooks do).
            if self._observed is not observed or (call is not None and not call.is_over()):
                return original(*args, **kwargs)
            return model(*args, **kwargs)

        self._handles.append(model.register_forward_pre_hook(_Hook(entered, self)))
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


def _is_in_peft(model: CausalLM, outer: CausalLM) -> bool:
    """Whether a model is the one inside PEFT's wrapper `outer`."""
    return any(type(part).__module__.split(".")[0] == "peft" and part is not model for part in outer.modules()
               if model in (getattr(part, "model", None), getattr(part, "base_model", None)))  # fmt: skip


def _observed(model: CausalLM, observer: Observer) -> Callable[..., Any]:
    """The model's `generate`, called through the observer."""
    original = model.generate

    @functools.wraps(original)
    def generate(*args: Any, **kwargs: Any) -> Any:
        return observer.generate(model, original, args, kwargs)

    return generate


def _refused_batching(*args: Any, **kwargs: Any) -> None:
    """In the place of what `generate_batch` begins with, which would otherwise prepare its cache for a minute first."""
    raise ValueError(
        "generate_batch (continuous batching) is not supported with a memory: it joins prompts in one row. Use generate() with a batch of prompts, "
        "or serve the memory with vLLM"
    )


def _forget_compiled() -> None:
    if "torch._dynamo" in sys.modules:  # otherwise nothing was compiled
        torch.compiler.reset()


def contiguous_input(module: nn.Module, args: tuple) -> tuple:
    """A hook for the output embeddings that makes their input contiguous.

    The last position of each sequence is a strided slice. Torch multiplies it with a frozen matrix sequence by
    sequence, which for a batch of eight takes twice as long as one product of a copy.
    """
    return tuple(a.contiguous() if isinstance(a, torch.Tensor) else a for a in args)


def is_ours(hook: Any) -> bool:
    """Whether an attachment put this hook, or this function, in its place."""
    return isinstance(hook, _Hook) or hook is contiguous_input
