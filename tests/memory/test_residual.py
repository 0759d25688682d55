"""The residual memory's tensors."""

from __future__ import annotations

from pathlib import Path

import torch

from memoir_fast.memory.residual import ResidualMemory


def _resident() -> int:
    """Bytes of memory that this process uses."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_an_empty_memory_takes_no_room():
    """A file of a few hundred bytes can say how large it is."""
    before = _resident()
    memory = ResidualMemory(8192, 16384, 4)  # 512 MiB, and C 128
    memory.track()
    assert (
        not memory.V.any() and memory.V.shape == (8192, 16384) and memory.reads.within(torch.arange(5)).shape == (5, 5)
    )
    assert _resident() - before < 64 << 20
    tensor = memory.V
    assert tensor.dtype == torch.float32 and tensor.is_contiguous() and tensor.data_ptr() % 64 == 0
    memory.V[5] += 1
    assert float(memory.V.sum()) == 16384
