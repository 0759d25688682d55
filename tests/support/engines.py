"""vLLM's engine client as far as a refresh asks it, with real workers behind it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from safetensors.torch import load_file

from memoir_fast import MemoirModel
from memoir_fast.serving.paging import digests_in, given_in
from memoir_fast.serving.tables import tables_of
from memoir_fast.serving.vllm.served import Served
from memoir_fast.serving.vllm.words import ServedWords
from memoir_fast.serving.vllm.worker import MemoirWorker
from tests.support.models import tiny_memoir


class Engine:
    """Two engines with a worker each, or one engine with two tensor parallel ranks.

    Attributes:
        lost: the call of this name fails. first: of several engines only the first one's answer is seen, as vLLM has it.
        calls: what was asked; given: the digests of the pages in each file that was handed over.
    """

    lost = ""
    first = False

    def __init__(self, model: MemoirModel, section: dict[str, Any], words: bool = False, ranks: int = 1):
        hf_config = SimpleNamespace(memoir=section)
        self.vllm_config = SimpleNamespace(model_config=SimpleNamespace(hf_config=hf_config))
        self.calls: list[str] = []
        self.given: list[set[str]] = []
        self.workers = [Served(section, rank % ranks, ranks) for rank in range(2)]
        for served in self.workers:
            served.words = ServedWords(model.tokenizer) if words else None
            for name, tensor in tables_of(model.store).items():
                served.take(name, tensor)
        self._rpc = [worker_of(served) for served in self.workers]

    async def collective_rpc(self, method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        self.calls.append(method)
        await asyncio.sleep(0)
        if method == self.lost:
            raise RuntimeError("the engine is gone")
        if method == "memoir_prepare":
            tensors = load_file(*args)
            assert set(digests_in(tensors)) >= given_in(tensors).keys()
            self.given.append(set(given_in(tensors)))
        found = [getattr(worker, method)(*args) for worker in self._rpc]
        return found[:1] if self.first else found

    @property
    def tables(self) -> list[tuple[int, list[int]]]:
        return [(served.table.generation, served.table.ids) for served in self.workers]


def worker_of(served: Served | None) -> MemoirWorker:
    """vLLM's worker, as far as a refresh asks it. served: None on a pipeline stage without the memory."""
    worker = MemoirWorker()
    worker.model_runner = SimpleNamespace(get_model=lambda: SimpleNamespace(memoir=served))
    return worker


def stored_model(folder: Any, **settings: Any) -> MemoirModel:
    """A tiny model with a store of one edit."""
    model = tiny_memoir("llama", **{"router": "mask", "steps": 2, **settings})
    model.create_store(str(folder))
    model.edit("w100 w101 w102 w103", "w150", tags=["a"])
    return model
