"""The residual memory's tensors."""

from __future__ import annotations

import subprocess
import sys

import torch

from memoir_fast.memory.residual import ResidualMemory

# In a process of its own: one that has run other tests has free memory in hand, which zeros are written to.
_EMPTY = """
from pathlib import Path
import torch
from memoir_fast.memory.residual import ResidualMemory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

before = resident()
memory = ResidualMemory(8192, 16384, 4)  # 512 MiB, and C 128
memory.track()
assert not memory.V.any() and memory.V.shape == (8192, 16384) and memory.reads.within(torch.arange(5)).shape == (5, 5)
print(resident() - before)
"""


def test_an_empty_memory_takes_no_room():
    """A file of a few hundred bytes can say how large it is."""
    done = subprocess.run([sys.executable, "-c", _EMPTY], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64 << 20


def test_the_weights_are_one_aligned_tensor():
    memory = ResidualMemory(512, 1024, 4)
    tensor = memory.V
    assert tensor.dtype == torch.float32 and tensor.is_contiguous() and tensor.data_ptr() % 64 == 0
    memory.V[5] += 1
    assert float(memory.V.sum()) == 1024
