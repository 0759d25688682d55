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
from typing import Any, NoReturn, TypeAlias

import torch
from torch import nn

from ..base.causal_lm import CausalLM, text_config
from ..base.projection import Target, layers_of
from ..reading.probe import run_to_projection
from ..reading.router import Router
from .layout import Layout

# bfloat16 copies of the layers above the target (by layer number) and of the head.
Halved: TypeAlias = tuple[dict[int, nn.Module], nn.Module]
Forward: TypeAlias = Callable[..., Any]
# Logits held at a time: 32 MB in float32. A passage of 350 targets has eleven times as many with a vocabulary of 262,144.
_LOGITS = 1 << 23
_LEAST_LOGIT = -46.0  # below the largest


class _Stop(Exception):
    """Ends a forward pass at the head."""


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
        self._own_head = model.get_output_embeddings().forward
        self._records: dict[nn.Module, list[Any]] = {}
        self._last: Any = None  # what the last layer returned once, for passes that leave the layers out
        self._owner = threading.get_ident()
        self._record()

    def _head(self, hidden: torch.Tensor) -> torch.Tensor:
        """The output embedding's own logits (m, V) of hidden states (m, h)."""
        if self.halved is not None:
            return self.halved[1](hidden.to(torch.bfloat16)).float()
        return self._own_head(hidden)

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
            if len(self.layout.labels) <= self._at_a_time:
                losses = self.losses(whole)
                (gradient,) = torch.autograd.grad(_passing(losses).sum(), whole)
            else:
                hidden = _passing(self._hidden(whole))
                losses, back = self._by_blocks(hidden.detach())
                (gradient,) = torch.autograd.grad(hidden, whole, back)
        return losses.detach(), gradient.reshape(-1, outputs.shape[1])[tokens].float()

    def losses(self, outputs: torch.Tensor) -> torch.Tensor:
        """(m,) the targets' weighted losses if the projection returned `outputs` (R, T, d); differentiable."""
        logits = self._run(self._forwards(lambda hidden: self._head(self._at_targets(hidden))), outputs)
        return _CrossEntropy.apply(logits, self.layout.labels) * self.layout.weights

    # ---- the targets in blocks -----------------------------------------------------------------------------------

    @property
    def _at_a_time(self) -> int:
        """How many targets' logits are held at a time."""
        return max(1, _LOGITS // max(1, int(text_config(self.model).vocab_size)))

    def _hidden(self, outputs: torch.Tensor) -> torch.Tensor:
        """(m, h) what enters the head at the targets if the projection returned `outputs` (R, T, d); differentiable."""
        seen: list[torch.Tensor] = []

        def stop(hidden: torch.Tensor) -> NoReturn:
            seen.append(self._at_targets(hidden))
            raise _Stop

        def through(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if self._last is None and threading.get_ident() == self._owner:
                self._last = _detached(output)

        handle = self.layers[-1].register_forward_hook(through)
        try:
            with contextlib.suppress(_Stop):
                self._run(self._forwards(stop), outputs)
        finally:
            handle.remove()
        return seen[0]

    def _by_blocks(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """hidden (m, h) at the targets to their weighted losses (m,) and the gradient (m, h) of their sum. What the model does to its
        logits is done to each block of them: its forward pass runs with its layers left out."""
        found = []
        for part, labels, weights in zip(
            hidden.split(self._at_a_time),
            self.layout.labels.split(self._at_a_time),
            self.layout.weights.split(self._at_a_time),
            strict=True,
        ):
            leaf = part.detach().requires_grad_()
            losses = _CrossEntropy.apply(self._run(self._only_head(leaf)), labels) * weights
            found.append((losses.detach(), *torch.autograd.grad(_passing(losses).sum(), leaf)))
        losses, gradient = (torch.cat(both) for both in zip(*found, strict=True))
        return losses, gradient

    def _only_head(self, hidden: torch.Tensor) -> Iterator[tuple[nn.Module, Forward]]:
        """(module, forward) for a pass that leaves the decoder layers out and puts `hidden` into the head."""
        for layer in self.layers:
            yield layer, lambda *args, **kwargs: self._last
        yield self.model.get_output_embeddings(), lambda ignored: self._head(hidden)

    # ---- one pass ------------------------------------------------------------------------------------------------

    def _run(self, forwards: Iterator[tuple[nn.Module, Forward]], outputs: torch.Tensor | None = None) -> torch.Tensor:
        """The logits (m, V) of the model's forward pass with these modules' forwards replaced; the projection, if it runs, returns
        `outputs` (R, T, d)."""
        with contextlib.ExitStack() as stack:
            for module, forward in forwards:
                stack.enter_context(_patched(module, forward, self._owner))
            stack.enter_context(self.router.tapped(lambda projection, x, out: _reshaped(outputs, self._outputs_shape)))
            logits = self.model(**self.layout.inputs).logits
        return logits.reshape(-1, logits.shape[-1])

    def _forwards(self, head: Forward) -> Iterator[tuple[nn.Module, Forward]]:
        """(module, forward) of every module whose forward is replaced in a pass up to the head, which `head` replaces."""
        number = self.target.layer
        if number:
            below = self._records[self.layers[number - 1]][0]
            for layer in self.layers[:number]:
                yield layer, lambda *args, **kwargs: below
        for module, outputs in self._records.items():
            if module is not self.layers[number - 1] or number == 0:
                yield module, _answering(outputs, module.forward)
        if self.halved is not None:
            last = len(self.layers) - 1
            for above in range(number + 1, len(self.layers)):
                back = torch.float32 if above == last else None
                yield self.layers[above], _in_bfloat16(self.halved[0][above], back)
        yield self.model.get_output_embeddings(), head

    def _at_targets(self, hidden: torch.Tensor) -> torch.Tensor:
        """The hidden states that enter the loss; only these go through the head."""
        return hidden.reshape(-1, hidden.shape[-1])[self.layout.targets]


def _passing(found: torch.Tensor) -> torch.Tensor:
    """The same tensor. Raises ValueError unless gradients come back from it."""
    if not found.requires_grad:
        raise ValueError(
            "the layers above the edited projection pass no gradient back (their activations are quantised, or they run without "
            "one), so that no edit can be learned; quantise the model's weights only, or use bfloat16"
        )
    return found


def _reshaped(outputs: torch.Tensor | None, shape: torch.Size) -> torch.Tensor | None:
    return None if outputs is None else outputs.reshape(shape)


def _detached(value: Any) -> Any:
    """A module's output without what autograd keeps of it."""
    if isinstance(value, torch.Tensor):
        return value.detach()
    return type(value)(_detached(item) for item in value) if isinstance(value, (tuple, list)) else value


class _CrossEntropy(torch.autograd.Function):
    """Logits (m, V) in any dtype and labels (m,) to losses (m,) float32. One float32 tensor (m, V) is kept for the gradient.

    Very unlikely tokens count as e^-46 times the likeliest: smaller probabilities turn denormal, and a CPU multiplies
    those a hundred times slower.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        rows = labels[:, None]
        shares = logits - logits.amax(1, keepdim=True).float()
        right = shares.gather(1, rows)
        total = shares.clamp_(min=_LEAST_LOGIT).exp_().sum(1, keepdim=True)
        shares.div_(total).scatter_add_(1, rows, shares.new_full(rows.shape, -1.0))
        ctx.save_for_backward(shares)
        ctx.dtype = logits.dtype
        return (total.log() - right)[:, 0]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (shares,) = ctx.saved_tensors
        return (shares * gradients[0][:, None]).to(ctx.dtype), None


def halved_copies(model: CausalLM, target: Target) -> Halved:
    """bfloat16 copies of the layers above the target (by number) and of the head, for `precision="fast"`."""
    layers = layers_of(model, target)
    above = {i: _in_half(layers[i]) for i in range(target.layer + 1, len(layers))}
    return above, _in_half(model.get_output_embeddings())


def _in_half(module: nn.Module) -> nn.Module:
    """A copy in bfloat16, without another one in the module's own dtype on the way."""
    made = {id(p): nn.Parameter(p.detach().to(torch.bfloat16, copy=True), False) for p in module.parameters()}
    return copy.deepcopy(module, made).to(torch.bfloat16)


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
