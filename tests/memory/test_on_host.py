"""A memory that stays on the host hands its rows to the device that computes. Torch's device "meta" stands in for that one: it has no
values, and refuses to compute with tensors of the CPU, as a GPU does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memoir_fast import MemoirConfig
from memoir_fast.memory.low_rank import LowRank
from memoir_fast.memory.residual import ResidualMemory
from memoir_fast.memory.update import Update
from tests.support.models import attached, tiny_model

META = torch.device("meta")
D, d, K = 1536, 8, 6  # with pages, C is in its small form


def update(edit: int, page: int) -> Update:
    g = torch.Generator().manual_seed(edit)
    rows = torch.randperm(D, generator=g)[:K].sort().values.int()
    mask = np.zeros(D, bool)
    mask[rows] = True
    moves, G, features = (torch.randn(3, size, generator=g) for size in (K, d, K))
    return Update(rows, np.packbits(mask, bitorder="little"), 1.0, 1.0, moves=moves, G=G, features=features, page=page)


def filled() -> ResidualMemory:
    memory = ResidualMemory(D, d, K, torch.randperm(D, generator=torch.Generator().manual_seed(0)), page_edits=2)
    memory.track()
    for edit in range(3):
        one = update(edit, memory.page_of(edit))
        memory.write(one)
        memory.index.add([edit], one.signature[None])
    return memory


def test_weights_stay_and_what_is_read_arrives():
    memory = filled()
    want = {edit: memory.block_of(edit)[1] for edit in range(3)}
    assert isinstance(memory.reads, LowRank)
    memory.on_host = True
    memory.to(META)
    assert memory.device == META and memory.background.device == META and memory.permutation.device == META
    assert memory.pages.device.type == "cpu" and memory.reads.whole().device.type == "cpu"
    for edit in range(3):
        mask, block = memory.block_of(edit)
        assert block.device == META and block.shape == want[edit].shape and len(mask) == K
    assert memory.rows_of(torch.arange(5)).device == META
    assert memory.stiffness(torch.arange(K), 1).device == META and memory.stiffness(torch.arange(K), 2).device == META


def test_writers_write_on_the_host():
    here, there = filled(), filled()
    there.on_host = True
    there.to(META)
    for memory in (here, there):
        memory.write(update(3, 1))
        memory.write(update(2, 1), -1)
    assert torch.equal(here.V, there.V) and torch.equal(here.C, there.C)


def test_it_is_a_setting_that_may_change_when_a_memory_is_opened(tmp_path):
    model = attached(tiny_model("llama"), memory_device="cpu")
    assert model.memory.on_host
    model.edit("w100 w101 w102", "w150")
    answer = model.ask("w100 w101 w102", max_new_tokens=2)
    model.save_pretrained(tmp_path / "memory")
    model.detach()
    again = type(model).load(tmp_path / "memory", tiny_model("llama"), model.tokenizer, memory_device=None)
    assert not again.memory.on_host and again.ask("w100 w101 w102", max_new_tokens=2) == answer
    with pytest.raises(ValueError, match="memory_device must be one of"):
        MemoirConfig(memory_device="cuda")
    with pytest.raises(ValueError, match=r"memory_device.*cannot change for a single edit"):
        again.edit("w1 w2", "w3", memory_device="cpu")
