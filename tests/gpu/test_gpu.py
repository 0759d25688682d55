"""What only a GPU can show: values on the device, no synchronisation, CUDA graphs. `pytest tests/gpu` on such a machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memoir_fast import ops
from memoir_fast.ops import reference, search

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def product_case(device, rows, dtype, v_dtype, D=512, d=256, masks=3, k=96):
    """x, V, indices, route on a device; the same values for each device."""
    g = torch.Generator().manual_seed(rows)
    x, V = torch.randn(rows, D, generator=g).to(dtype), torch.randn(D, d, generator=g).to(v_dtype)
    indices = torch.stack([torch.randperm(D, generator=g)[:k].sort().values for _ in range(masks)]).int()
    route = torch.randint(-1, masks, (rows,), generator=g).int()
    return tuple(t.to(device) for t in (x, V, indices, route))


def agrees(got, want, dtype) -> bool:
    """Equal within what a dtype rounds, of each number and of their usual size: sums of large numbers that cancel keep the large ones' error."""
    tolerance = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}[dtype]
    size = float(want.float().square().mean().sqrt())
    return torch.allclose(got.float().cpu(), want.float().cpu(), rtol=tolerance, atol=tolerance * size)


@pytest.mark.parametrize("masks", [1, 3])
@pytest.mark.parametrize("rows", [1, 8, 17, 300])
@pytest.mark.parametrize(
    ("dtype", "v_dtype"), [(torch.float32,) * 2, (torch.bfloat16, torch.float32), (torch.bfloat16,) * 2]
)
def test_masked_matmul(rows, dtype, v_dtype, masks):
    x, V, indices, route = product_case("cuda", rows, dtype, v_dtype, masks=masks)
    want = reference.masked_matmul(x, V, indices, route, 0.5)
    assert agrees(ops.masked_matmul(x, V, indices, route, 0.5), want, dtype)
    blocks = torch.stack([V[line.long()] for line in indices])
    assert agrees(ops.block_matmul(x, blocks, indices, route, 0.5), want, dtype)
    base = torch.randn_like(want)
    added = base.clone()
    ops.block_matmul_(added, x, blocks, indices, route, 0.5)
    assert agrees(added, base.float() + want.float(), dtype)
    assert torch.equal(added[route < 0].view(torch.uint8), base[route < 0].view(torch.uint8))
    x.requires_grad_()
    (got,) = torch.autograd.grad(ops.masked_matmul(x, V, indices, route, 0.5).square().sum(), x)
    wanted = reference.masked_matmul_backward(2 * want, V, indices, route, 0.5, len(V))
    assert agrees(got, wanted, dtype)


@pytest.mark.parametrize("D", [97, 1536, 14336])
def test_tophash(D):
    g = torch.Generator().manual_seed(D)
    features, background = torch.randn(4, D, generator=g), torch.randn(D, generator=g)
    permutation = torch.randperm(D, generator=g).int()
    want = reference.tophash(features, background, permutation, D // 4)
    got = ops.tophash(features.cuda(), background.cuda(), permutation.cuda(), D // 4)
    assert all(torch.equal(a.cpu(), b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masked_scatter(dtype):
    g = torch.Generator().manual_seed(1)
    V, idx = torch.randn(512, 200, generator=g), torch.randperm(512, generator=g)[:300].int()
    A, G = torch.randn(70, 300, generator=g).to(dtype), torch.randn(70, 200, generator=g).to(dtype)
    expected = V.clone()
    want = reference.masked_scatter_(expected, idx, A, G, 0.1)
    device = V.cuda()
    got = ops.masked_scatter_(device, idx.cuda(), A.cuda(), G.cuda(), 0.1)
    assert ops.backend_of("masked_scatter_", "cuda") == "cuda", "build with MEMOIR_FAST_CUDA=1"
    assert agrees(device, expected, torch.float32) and float(got) == pytest.approx(float(want), rel=1e-3)


def test_a_decode_step_is_captured_in_a_graph_without_synchronising():
    x, V, indices, route = product_case("cuda", 8, torch.bfloat16, torch.float32)
    out = torch.zeros(8, V.shape[1], dtype=x.dtype, device="cuda")
    ops.masked_matmul_(out, x, V, indices, route, 0.5)  # compiles the kernel
    want = out.clone()
    torch.cuda.set_sync_debug_mode("error")
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            ops.masked_matmul_(out, x, V, indices, route, 0.5)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    out.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(out, want)


def test_faiss_searches_on_the_device():
    """With a GPU build of FAISS the index is on the GPU, finds wordings as near as a direct comparison does, and takes later rows."""
    faiss = pytest.importorskip("faiss", reason="FAISS is not installed")
    if not search.gpus(faiss):
        pytest.skip("FAISS is not built for GPUs")
    torch.zeros(1, device="cuda")  # a GPU is used from here on
    draw = np.random.default_rng(0)
    codes = draw.integers(0, 256, (9000, 48), np.uint8)
    index = search.placed(search.flat_index(codes[:8000]))
    assert isinstance(index, faiss.GpuIndexBinaryFlat)
    for end in (8000, 9000):
        if index.ntotal < end:
            index.add(codes[index.ntotal : end])
        query = codes[[5]] ^ np.uint8(1)
        found = np.bitwise_count(codes[index.search(query, 21)[1][0]] ^ query).sum(1, dtype=np.int64)
        assert found.tolist() == np.sort(np.bitwise_count(codes[:end] ^ query).sum(1, dtype=np.int64))[:21].tolist()
    assert "GpuIndexBinaryFlat" in search.engines()["tokens"]
