"""Small stores without a model: random edits of a memory of 64 features."""

from __future__ import annotations

import numpy as np
import torch

from memoir_fast import MemoirConfig
from memoir_fast.journal.journal import Journal
from memoir_fast.journal.memory_state import MemoryState
from memoir_fast.journal.volatile import VolatileJournal
from memoir_fast.memory.residual import ResidualMemory
from memoir_fast.memory.update import Update
from memoir_fast.store import Store

D, HIDDEN, K = 64, 8, 9
FINGERPRINT = {"architecture": "X", "in_features": D, "out_features": HIDDEN}


def new_store(folder, conflict: str = "keep", page_edits: int = 0, **options) -> Store:
    torch.manual_seed(0)
    config = MemoirConfig(layer="model.layers.1.mlp.down_proj", top_k=K, write="preconditioned", page_edits=page_edits)
    memory = ResidualMemory(D, HIDDEN, K, page_edits=page_edits)
    memory.track()
    state = MemoryState(config, FINGERPRINT, memory, ["a"], np.zeros((3, 8), np.uint8), VolatileJournal(memory))
    return Store.create(folder, state, conflict, **options)


def new_journal(conflict: str = "keep", page_edits: int = 0) -> VolatileJournal:
    """The same without files."""
    torch.manual_seed(0)
    memory = ResidualMemory(D, HIDDEN, K, page_edits=page_edits)
    memory.track()
    journal = VolatileJournal(memory)
    journal.conflict = conflict
    return journal


def add(store: Journal, number: int, target: str = "t", **about) -> int:
    """A random edit, without a model."""
    fact, update = fact_of(store, number, target, **about)
    return store.add([fact], [update])[0]


def fact_of(store: Journal, number: int, target: str = "t", **about):
    """The details and the update of a random edit."""
    rng = np.random.default_rng(number)
    mask = np.zeros(D, np.uint8)
    mask[rng.choice(D, K, replace=False)] = 1

    def draw(*shape):
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))

    update = Update(torch.from_numpy(np.flatnonzero(mask).astype(np.int32)), np.packbits(mask, bitorder="little"), 1.0,
                    store.memory.scale, moves=draw(3, K), G=draw(3, HIDDEN), features=draw(3, K))  # fmt: skip
    fact = {"prompt": f"p{number}", "target": target, "author": "", "created": "2026-01-01T00:00:00+00:00", "loss": 0.5,
            "steps": 3, "seconds": 0.1, "nearest": None, "overlap": 0.0, "supersedes": [], "tags": ["x"], "metadata": {}, **about}  # fmt: skip
    return fact, update


def contents(store: Store):
    return dict(store.state.statuses), store.memory.index.signatures().tobytes(), dict(store.edits)
