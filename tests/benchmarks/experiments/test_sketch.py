"""Smaller forms of C."""

from __future__ import annotations

import torch

from benchmarks.experiments import sketch
from tests.benchmarks.support import ROWS
from tests.support.models import tiny_memoir


def test_smaller_forms_of_the_record_of_reads():
    A = torch.randn(60, 40, generator=torch.Generator().manual_seed(0))
    C = A.T @ A
    assert torch.allclose(sketch.sketched(C, "bfloat16"), C, rtol=1e-2)
    assert torch.allclose(sketch.sketched(C, "rank=40"), C, rtol=1e-3, atol=1e-3)
    assert torch.allclose(sketch.sketched(C, "rank=0"), torch.diag(C.diagonal()))
    assert torch.allclose(sketch.sketched(C, "rank=5").diagonal(), C.diagonal(), rtol=1e-4)


def test_a_stream_keeps_the_smaller_form():
    model = tiny_memoir(steps=20, write="preconditioned")
    variant = sketch.variant("rank=0")
    variant.edit(model, [], ROWS[0])
    assert torch.equal(model.memory.C, torch.diag(model.memory.C.diagonal())) and float(model.memory.C.sum()) > 0
    assert variant.benchmark == "sketch" and variant.settings == {"sketch": "rank=0"}
