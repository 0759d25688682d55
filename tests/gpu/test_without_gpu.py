"""The parts of the GPU tests and benchmarks that need none: their cases, comparisons and accounting."""

from __future__ import annotations

import pytest
import torch

from memoir_fast.ops import reference
from tests.gpu.test_gpu import agrees, product_case

pytest.importorskip("triton", reason="triton is not installed")
from benchmarks.gpu import kernels as gpu
from benchmarks.gpu import roofline


def test_cases_and_comparison():
    x, V, indices, route = product_case("cpu", 17, torch.bfloat16, torch.float32)
    want = reference.masked_matmul(x, V, indices, route, 0.5)
    exact = reference.masked_matmul(x.float(), V, indices, route, 0.5)
    assert agrees(want, exact, torch.bfloat16) and not agrees(want + 1, exact, torch.bfloat16)


@pytest.mark.parametrize("masks", [1, 3])
def test_the_benchmarks_rivals_compute_the_product(masks):
    size = roofline.Size("small", 64, 16, 20)
    x, V, indices, route = gpu.case(size, 6, torch.float32, torch.float32, "cpu", masks)
    want = reference.masked_matmul(x, V, indices, route, 1.0)
    for call in gpu.rivals(x, indices, route).values():
        gpu.check(call(V), want)
    with pytest.raises(AssertionError, match="off by"):
        gpu.check(want + 1, want)


def test_the_accounting_of_a_decode_step():
    size = roofline.Size("llama3-8b", 14336, 4096, 4096)
    work = roofline.product(size, 1, "bf16", "fp32")
    assert work.bytes == 4096 * 4096 * 4 + 2 * 8192 and work.operations == 2 * 4096 * 4096
    assert work.plan_bytes >= work.bytes and work.case == "decode 0 bf16 x fp32"
    found = roofline.row(work, roofline.CHIPS[1], {})
    assert found["floor_us"] == pytest.approx(work.bytes / 3.35e6, rel=1e-2)  # bound by memory
    assert all(w.plan_bytes >= 0.99 * w.bytes for w in roofline.works())
