"""Smaller forms of C."""

from __future__ import annotations

import pytest
import torch

from benchmarks.experiments import forms
from tests.benchmarks.support import ROWS
from tests.support.models import tiny_memoir


def test_smaller_forms_of_the_record_of_reads():
    A = torch.randn(60, 40, generator=torch.Generator().manual_seed(0))
    C = A.T @ A
    assert torch.allclose(forms.reduced(C, "bfloat16"), C, rtol=1e-2)
    assert torch.allclose(forms.reduced(C, "rank=40"), C, rtol=1e-3, atol=1e-3)
    assert torch.allclose(forms.reduced(C, "rank=0"), torch.diag(C.diagonal()))
    assert torch.allclose(forms.reduced(C, "rank=5").diagonal(), C.diagonal(), rtol=1e-4)
    assert not forms.reduced(C, "none").any()
    with pytest.raises(ValueError, match="none of"):
        forms.reduced(C, "float16")


def test_the_largest_directions_are_those_of_an_eigendecomposition():
    A = torch.randn(200, 40, generator=torch.Generator().manual_seed(1)) * torch.logspace(0, -3, 40)
    C = A.T @ A
    values, vectors = torch.linalg.eigh(C.double())
    best = (vectors[:, -8:] * values[-8:]) @ vectors[:, -8:].T
    assert torch.allclose(forms._largest(C, 8).double(), best, rtol=1e-4, atol=1e-4 * float(C.max()))


def test_a_stream_keeps_the_smaller_form():
    rows, of = [("zsre", row) for row in ROWS], {}
    for form in ("float32", "rank=0"):
        model = tiny_memoir(steps=20, write="preconditioned")
        assert len(forms.edit(model, rows, form)["ids"]) == len(rows)
        of[form] = model.memory.C
    assert torch.equal(of["rank=0"], torch.diag(of["rank=0"].diagonal())) and float(of["rank=0"].sum()) > 0
    assert not torch.equal(of["float32"], of["rank=0"])
