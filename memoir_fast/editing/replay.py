"""Run only what comes after the edited projection, through the model's own code.

During an edit nothing before the projection changes. The first pass records what the modules before it returned; in
later passes these modules return the record and the rest of the model's forward runs as it is. So every architecture
(parallel blocks, norms after the projection, sliding windows, capped logits) runs its own implementation.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import nn

from ..base.causal_lm import CausalLM
from ..base.projection import Target, layers_of
from ..reading.probe import run_to_projection
from ..reading.router import Router
from .layout import Layout

# bfloat16 copies of the layers above the target (by layer number) and of the head.
Halved: TypeAlias = tuple[dict[int, nn.Module], nn.Module]
Forward: TypeAlias = Callable[..., Any]


class Replay:
    """One edit's forward passes.

    Args:
        model: the causal language model, with the memory attached.
        router: the memory's router, which can tap the projection.
        target: where the projection is.
        layout: the edit's tokens.
        halved: (layers, head) copies in bfloat16 that run instead of the layers above the target and the head, or None.

    Attributes:
        activations: (R, T, D) the projection's input, fixed during the edit.
        outputs: (R, T, d) the projection's output without the memory, fixed during the edit.
        next_is_full: whether the whole vocabulary takes part in the next pass, as in every one here.
    """

    next_is_full = True

    def __init__(self, model: CausalLM, router: Router, target: Target, layout: Layout, halved: Halved | None = None):
        self.model, self.router, self.target, self.layout, self.halved = model, router, target, layout, halved
        self.layers = layers_of(model, target)
        self._records: dict[nn.Module, list[Any]] = {}
        self._owner = threading.get_ident()
        self._record()

    def _record(self) -> None:
        watched = list(self.layers[self.target.layer].modules())
        if self.target.layer:
            watched.append(self.layers[self.target.layer - 1])
        handles = [module.register_forward_hook(self._remember) for module in watched]
        try:
            activations, outputs = run_to_projection(self.model, self.router, self.layout.inputs)
        finally:
            for handle in handles:
                handle.remove()
        rows, width = self.layout.shape
        self.activations = activations.reshape(rows, width, -1)
        self._outputs_shape, self.outputs = outputs.shape, outputs.reshape(rows, width, -1)

    def _remember(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if threading.get_ident() == self._owner:  # another thread may be reading through the same modules
            self._records.setdefault(module, []).append(output)

    def losses_and_gradient(self, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The targets' losses and the gradient of their sum.

        Args:
            outputs: (a, d) float32, what the projection returns at the acting tokens; elsewhere it returns its base
                output.

        Returns:
            (m,) the weighted losses, and (a, d) float32 the gradient with respect to `outputs`.

        Raises:
            ValueError: the layers above the projection pass no gradient back.
        """
        tokens = self.layout.tokens[self.layout.acting]
        with torch.enable_grad():
            whole = self.outputs.detach().clone()
            whole.reshape(-1, outputs.shape[1])[tokens] = outputs.to(whole.dtype)
            whole.requires_grad_()
            losses = self.losses(whole)
            if not losses.requires_grad:
                raise ValueError(
                    "the layers above the edited projection pass no gradient back (their activations are quantised, or they run without "
                    "one), so that no edit can be learned; quantise the model's weights only, or use bfloat16"
                )
            (gradient,) = torch.autograd.grad(losses.sum(), whole)
        return losses.detach(), gradient.reshape(-1, outputs.shape[1])[tokens].float()

    def losses(self, outputs: torch.Tensor) -> torch.Tensor:
        """(m,) the targets' weighted losses if the projection returned `outputs` (R, T, d); differentiable."""
        with contextlib.ExitStack() as stack:
            for module, forward in self._forwards():
                stack.enter_context(_patched(module, forward, self._owner))
            stack.enter_context(self.router.tapped(lambda projection, x, out: outputs.reshape(self._outputs_shape)))
            logits = self.model(**self.layout.inputs).logits
        logits = logits.reshape(-1, logits.shape[-1]).float()
        if logits.requires_grad:
            logits.register_hook(_without_denormals)
        losses = nn.functional.cross_entropy(logits, self.layout.labels, reduction="none")
        return losses * self.layout.weights

    def _forwards(self) -> Iterator[tuple[nn.Module, Forward]]:
        """(module, forward) of every module whose forward is replaced."""
        number = self.target.layer
        if number:
            below = self._records[self.layers[number - 1]][0]
            for layer in self.layers[:number]:
                yield layer, lambda *args, **kwargs: below
        for module, outputs in self._records.items():
            if module is not self.layers[number - 1] or number == 0:
                yield module, _answering(outputs, module.forward)
        head = self.model.get_output_embeddings()
        last = len(self.layers) - 1
        if self.halved is None:
            yield head, lambda hidden, original=head.forward: original(self._at_targets(hidden))
            return
        copies, small_head = self.halved
        for above in range(number + 1, len(self.layers)):
            yield self.layers[above], _in_bfloat16(copies[above], back=torch.float32 if above == last else None)
        yield head, lambda hidden: small_head(self._at_targets(hidden).to(torch.bfloat16)).float()

    def _at_targets(self, hidden: torch.Tensor) -> torch.Tensor:
        """The hidden states that enter the loss; only these go through the head."""
        return hidden.reshape(-1, hidden.shape[-1])[self.layout.targets]


def _without_denormals(gradient: torch.Tensor) -> torch.Tensor:
    """The gradient without denormal numbers: very unlikely tokens cause them, and a CPU multiplies them a hundred times
    slower."""
    return gradient.masked_fill(gradient.abs() < 1e-20, 0.0)


def halved_copies(model: CausalLM, target: Target) -> Halved:
    """bfloat16 copies of the layers above the target (by number) and of the head, for `precision="fast"`."""
    layers = layers_of(model, target)
    above = {i: copy.deepcopy(layers[i]).to(torch.bfloat16) for i in range(target.layer + 1, len(layers))}
    return above, copy.deepcopy(model.get_output_embeddings()).to(torch.bfloat16)


def _answering(outputs: list[Any], original: Forward) -> Forward:
    """A forward that returns the recorded outputs in order; if the module is used again after that, the original
    runs."""
    remaining = iter(outputs)

    def forward(*args: Any, **kwargs: Any) -> Any:
        for output in remaining:
            return output
        return original(*args, **kwargs)

    return forward


def _in_bfloat16(module: nn.Module, back: torch.dtype | None) -> Forward:
    def cast(value: Any, dtype: torch.dtype = torch.bfloat16) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(dtype) if value.is_floating_point() else value
        return type(value)(cast(item, dtype) for item in value) if isinstance(value, (tuple, list)) else value

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = module(*cast(args), **{name: cast(value) for name, value in kwargs.items()})
        return output if back is None else cast(output, back)

    return forward


@contextlib.contextmanager
def _patched(module: nn.Module, forward: Forward, owner: int) -> Iterator[None]:
    """Replace this module's forward in the owner's thread; other threads, and later passes, see the original."""
    original, own = module.forward, module.__dict__.get("forward")
    module.forward = lambda *args, **kwargs: (forward if threading.get_ident() == owner else original)(*args, **kwargs)
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own
