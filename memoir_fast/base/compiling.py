"""torch.compile and a memory: what decides which edit is read cannot be traced, so that the compiler breaks its graph there.

Compiled in parts (torch's default) an edited model reads its edits; with `fullgraph=True` it is refused with a sentence.
"""

from __future__ import annotations

import torch
from torch._dynamo.exc import Unsupported


class NotOneGraph(Unsupported, ValueError):
    """The model was to be compiled as a single graph while a memory is attached."""


@torch.compiler.assume_constant_result
def refuse_to_be_traced() -> None:
    """Called by a hook that is being traced: torch runs the hook as plain Python between two graphs, or gives up if there may be only
    one. Where it runs as plain Python it does nothing."""
    if torch._guards.TracingContext.try_get() is None:
        return
    raise NotOneGraph(
        "a model with a memory attached cannot be compiled as one graph: which edit is read is decided anew for each prompt. Use "
        "torch.compile(model) without fullgraph=True, which reads edits, or call detach() and compile the base model"
    )
