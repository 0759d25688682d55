"""Watches the passes of edits: their times, losses and sizes, and the process's memory. Used by `bigmodel.py`."""

from __future__ import annotations

import contextlib
import ctypes
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from benchmarks.library import Replay, Suffix


class Taken(NamedTuple):
    """Seconds on the wall and of the processor. Other work on the machine makes the first longer, and less so the second."""

    wall: float
    work: float

    def __sub__(self, other: Taken) -> Taken:
        return Taken(self.wall - other.wall, self.work - other.work)


def now() -> Taken:
    """The clocks, for differences."""
    return Taken(time.perf_counter(), time.process_time())


def middle(some: list[Taken]) -> Taken:
    """The median of each clock."""
    return Taken(*(statistics.median(clock) for clock in zip(*some, strict=True)))


@dataclass
class Passes:
    """One edit's passes through the layers above the projection.

    Attributes:
        kind: the class that makes them.
        layout: the edit's tokens.
        prefix_s: seconds until the first pass can begin: the layers below the projection, and what is kept of those above.
        began: of each pass, see `now`.
        full: of each pass, whether all of the vocabulary took part.
        losses: of each pass, the edit's loss.
    """

    kind: str
    layout: Any
    prefix_s: float
    began: list[Taken] = field(default_factory=list)
    full: list[bool] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def steps(self) -> list[Taken]:
        """From the beginning of each pass to that of the next, so with the write between them. The last pass has no step."""
        return [after - before for before, after in zip(self.began, self.began[1:], strict=False)]


@contextlib.contextmanager
def watched() -> Iterator[list[Passes]]:
    """Record the passes of every edit made inside."""
    made: list[Passes] = []
    with contextlib.ExitStack() as stack:
        for kind in (Suffix, Replay):
            stack.enter_context(_watched(kind, made))
        yield made
    made[:] = [passes for passes in made if passes.began]


@contextlib.contextmanager
def _watched(kind: Any, made: list[Passes]) -> Iterator[None]:
    start, run = kind.__init__, kind.losses_and_gradient

    def timed_start(self: Any, *args: Any, **kwargs: Any) -> None:
        began = time.perf_counter()
        start(self, *args, **kwargs)
        self.watched = Passes(kind.__name__, self.layout, time.perf_counter() - began)
        made.append(self.watched)

    def timed_run(self: Any, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.watched.full.append(self.next_is_full)
        self.watched.began.append(now())
        found = run(self, outputs)
        self.watched.losses.append(float(found[0].sum()))
        return found

    kind.__init__, kind.losses_and_gradient = timed_start, timed_run
    try:
        yield
    finally:
        kind.__init__, kind.losses_and_gradient = start, run


def by_autograd(model: Any, layout: Any, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What `losses_and_gradient` should give: the whole model runs, its projection returns `outputs` at the acting tokens, and autograd
    goes back to them from the logits. Nothing of `memoir_fast.editing` takes part.

    Args:
        model: a `MemoirModel` that reads no edit. layout: the edit's tokens. outputs: (a, d) float32.
    """
    tokens, leaf = layout.tokens[layout.acting], outputs.detach().clone().requires_grad_()

    def replaced(module: nn.Module, args: tuple, out: torch.Tensor) -> torch.Tensor:
        return out.reshape(-1, out.shape[-1]).index_copy(0, tokens, leaf.to(out.dtype)).view(out.shape)

    handle = model.model.get_submodule(model.target.path).register_forward_hook(replaced)
    try:
        with model.disabled(), torch.enable_grad():
            logits = model.model(**layout.inputs).logits
            logits = logits.reshape(-1, logits.shape[-1])[layout.targets].float()
            losses = nn.functional.cross_entropy(logits, layout.labels, reduction="none") * layout.weights
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    finally:
        handle.remove()
    return losses.detach(), gradient


def status(name: str) -> int:
    """A field of this process's status in bytes, such as VmRSS."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"/proc/self/status has no {name}: memory is measured on Linux only")
    return int(found[1]) << 10


def resident() -> int:
    """Bytes in main memory, without what the allocator keeps for later."""
    ctypes.CDLL(None).malloc_trim(0)
    return status("VmRSS")


class Peak:
    """The most bytes in main memory since it was made, as the kernel counts them."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")

    def bytes(self) -> int:
        return status("VmHWM")
