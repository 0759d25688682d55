"""Keeps torch.compile from tracing a memory's hooks: the code that chooses an edit cannot be traced.

An edited model compiled in several graphs (torch's default) reads its edits. With `fullgraph=True` an error says what
to do.
"""

from __future__ import annotations

import torch
from torch._dynamo.exc import Unsupported


class NotOneGraph(Unsupported, ValueError):
    """A model with a memory attached was to be compiled as a single graph."""


@torch.compiler.assume_constant_result
def refuse_to_be_traced() -> None:
    """Called by a hook that is being traced; does nothing in plain Python.

    Torch then breaks the graph and runs the hook as plain Python between two graphs. If only one graph is allowed, it
    gives up with the error raised here.

    Raises:
        NotOneGraph: while tracing.
    """
    if torch._guards.TracingContext.try_get() is None:
        return
    raise NotOneGraph(
        "a model with a memory attached cannot be compiled as one graph: which edit is read is decided anew for each prompt. Use "
        "torch.compile(model) without fullgraph=True, which reads edits, or call detach() and compile the base model"
    )
