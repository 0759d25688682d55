"""Whether quantised layers pass a gradient back: an edit is learned through the layers above its projection, and the products of some pass
none on some devices, without a word."""

from __future__ import annotations

from typing import Any

import torch

from .causal_lm import CausalLM, evaluating
from .projection import Target, layers_of, linear_sizes
from .running import device_of

_PLAIN = ("torch.", "transformers.")
_FAR = 0.3  # how far the gradient may be from what it promises, of that; 8-bit arithmetic is within 0.05, a lost gradient is 1.0 away


def check_gradients(model: CausalLM, target: Target) -> None:
    """Raise ValueError where a kind of linear layer above the projection passes no gradient back; torch's own are not tried.

    One layer of each kind and on each device is tried on random numbers: it is linear, so that a small change of its input moves its
    output by what the gradient says. (A kind may have products of its own for each device, and layers may be spread over several.)
    """
    tried: set[tuple[type, torch.device]] = set()
    with evaluating(model):
        for layer in layers_of(model, target)[target.layer + 1 :]:
            for part in layer.modules():
                kind = type(part)
                if linear_sizes(part) is None or kind.__module__.startswith(_PLAIN) or (kind, device_of(part)) in tried:
                    continue
                tried.add((kind, device_of(part)))
                if not _passes(part):
                    raise ValueError(
                        f"model: its {kind.__name__} layers ({kind.__module__.split('.')[0]}) pass no gradient back on the device "
                        f"{device_of(part)}, so that no edit can be learned (a memory made elsewhere can be read); edit the model in "
                        "bfloat16, or on another device"
                    )


def _passes(part: Any) -> bool:
    """Whether a linear module's gradient is what its outputs say."""
    sizes = linear_sizes(part)
    assert sizes is not None
    draw = torch.Generator().manual_seed(0)
    dtype = next((p.dtype for p in part.parameters() if p.is_floating_point()), torch.float32)
    x, change = (torch.randn(1, 4, sizes[0], generator=draw).to(device_of(part), dtype) for _ in range(2))
    with torch.inference_mode(False):
        with torch.no_grad():  # first, as a model answers: bitsandbytes lays 4-bit weights out anew then
            moved = (part(x + change) - part(x)).float()
        with torch.enable_grad():
            x.requires_grad_()
            out = part(x).float()
            if not out.requires_grad:
                return False
            (gradient,) = torch.autograd.grad((out * moved).sum(), x, allow_unused=True)
    if gradient is None:
        return False
    promised, found = float(moved.square().sum()), float((gradient.float() * change.float()).sum())
    return abs(promised - found) <= _FAR * promised
