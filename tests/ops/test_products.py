"""masked_matmul and block_matmul on every backend and SIMD level against a dense product.

Each test runs for both: the same values lie in the memory V, or in blocks gathered from it.
"""

from __future__ import annotations

import pytest
import torch

from memoir_fast import ops
from memoir_fast.ops import reference
from tests.support.models import bits
from tests.support.operations import TOLERANCE, dense_product, product_case, strided

DTYPES = [
    (torch.float32,) * 2, (torch.bfloat16,) * 2, (torch.bfloat16, torch.float32), (torch.float16, torch.float32),
    (torch.float64,) * 2,
]  # fmt: skip


class Kind:
    """One of the two products: its functions, and the weights that it multiplies with."""

    def __init__(self, name: str):
        self.name, self.product, self.add = name, getattr(ops, name), getattr(ops, name + "_")

    def weights(self, V, indices):
        return V if self.name == "masked_matmul" else V[indices.long()]


@pytest.fixture(params=["masked_matmul", "block_matmul"])
def kind(request):
    return Kind(request.param)


def test_the_reference_is_a_dense_one_liner(kind):
    x, V, indices, _ = product_case(4, dtype=torch.float64, v_dtype=torch.float64)
    route, idx = torch.tensor([1, -1, 1, -1], dtype=torch.int32), indices[1].long()
    got = getattr(reference, kind.name)(x, kind.weights(V, indices), indices, route, 0.7)
    want = 0.7 * (x * torch.zeros(50).index_fill(0, idx, 1)) @ V * (route >= 0)[:, None]
    assert torch.allclose(got, want)


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 40])
@pytest.mark.parametrize(("dtype", "v_dtype"), DTYPES)
def test_product(backend, kind, rows, dtype, v_dtype):
    x, V, indices, route = product_case(rows, dtype=dtype, v_dtype=v_dtype)
    weights = kind.weights(V, indices)
    if dtype == torch.float64 and backend != "reference":
        with pytest.raises(ValueError, match="takes cpu tensors up to float32"):
            kind.product(x, weights, indices, route, 1.0)
        return
    want = dense_product(x, V, indices, route, 0.7)
    got = kind.product(x, weights, indices, route, 0.7)
    assert got.dtype == dtype and got.shape == (rows, 33)
    assert torch.allclose(got.double(), want, rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])
    off = route == -1
    assert (got[off] == 0).all() and torch.signbit(got[off]).all()  # -0.0: adding it changes no bit
    out = torch.randn(rows, 33, generator=torch.Generator().manual_seed(1)).to(dtype)
    before = out.clone()
    kind.add(out, x, weights, indices, route, 0.7)
    assert torch.allclose(out.double(), before.double() + want, rtol=TOLERANCE[dtype], atol=20 * TOLERANCE[dtype])
    assert torch.equal(bits(out[off]), bits(before[off]))


@pytest.mark.parametrize("counts", [(8, 9, 0), (1, 30, 2), (0, 25, 0)])
@pytest.mark.parametrize(("dtype", "v_dtype"), DTYPES[:3])
def test_masks_of_few_and_of_many_rows(backend, kind, counts, dtype, v_dtype):
    """In C++ up to 8 rows of a mask are a kernel's, more a matrix product's (which writes directly when it has all rows)."""
    x, V, indices, _ = product_case(sum(counts) + 2, dtype=dtype, v_dtype=v_dtype)
    lines = [line for line, count in enumerate(counts) for _ in range(count)]
    for off in ((-1, -1), (1, 1)):
        route = torch.tensor([off[0], *lines, off[1]], dtype=torch.int32)
        got = kind.product(x, kind.weights(V, indices), indices, route, 0.7)
        want = dense_product(x, V, indices, route, 0.7)
        assert torch.allclose(got.double(), want, rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])


def test_the_two_products_agree_bit_for_bit_on_few_rows(backend):
    x, V, indices, route = product_case(6)
    V[indices[1].long()[0], 0] = -0.0
    one, other = (
        k.product(x, k.weights(V, indices), indices, route, 1.0) for k in map(Kind, ("masked_matmul", "block_matmul"))
    )
    assert torch.equal(bits(one), bits(other))


@pytest.mark.parametrize("layout", [1, 2, 3])
def test_views(backend, kind, layout):
    x, V, indices, route = product_case(30)
    weights = kind.weights(V, indices)
    want = kind.product(x, weights, indices, route, 1.0)
    got = kind.product(strided(x, layout), strided(weights, layout), strided(indices, layout), route, 1.0)
    assert torch.allclose(got, want, atol=1e-5)
    wide = torch.zeros(60, 40)
    kind.add(wide[::2, 4:37], x, weights, indices, route, 1.0)
    assert torch.allclose(wide[::2, 4:37], want, atol=1e-5)
    assert (wide[1::2] == 0).all() and (wide[:, :4] == 0).all() and (wide[:, 37:] == 0).all()
    columns = torch.zeros(33, 30).T
    kind.add(columns, x, weights, indices, route, 1.0)
    assert torch.allclose(columns, want, atol=1e-5)


@pytest.mark.parametrize(("masks", "k", "d"), [(0, 11, 33), (3, 0, 33), (3, 11, 0)])
def test_no_masks_no_indices_no_columns(backend, kind, masks, k, d):
    x, V = torch.randn(40, 50), torch.randn(50, d)
    indices = torch.arange(k, dtype=torch.int32).expand(masks, k)
    route = torch.full((40,), 0 if masks else -1, dtype=torch.int32)
    got = kind.product(x, kind.weights(V, indices), indices, route, 1.0)
    assert got.shape == (40, d) and (got == 0).all()
    assert masks or torch.signbit(got).all()


def test_large_product_uses_threads_and_agrees(backend, kind):
    x, V, indices, route = product_case(3, dimension=4096, d=1024, masks=1, k=2500)
    route[:] = 0
    want = dense_product(x, V, indices, route, 1.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        got = kind.product(x, kind.weights(V, indices), indices, route, 1.0)
    finally:
        torch.set_num_threads(threads)
    assert torch.allclose(got.double(), want, atol=1e-3)


@pytest.mark.parametrize("rows", [6, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient(backend, kind, rows, dtype):
    x, V, indices, route = product_case(rows, dimension=12, d=5, k=4)
    x = x.to(dtype).requires_grad_()
    kind.product(x, kind.weights(V, indices), indices, route, 0.5).float().square().sum().backward()
    y = x.detach().double().requires_grad_()
    dense_product(y, V, indices, route, 0.5).square().sum().backward()
    assert x.grad.dtype == dtype
    assert torch.allclose(x.grad.double(), y.grad, rtol=2 * TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])


def test_gradients_in_double(kind):
    x, V, indices, route = product_case(6, dimension=12, d=5, k=4)
    weights, y = kind.weights(V, indices).double(), x.double().requires_grad_()
    function = lambda t: kind.product(t, weights, indices, route, 0.5)  # noqa: E731
    with ops.use_backend("auto"):
        assert torch.autograd.gradcheck(function, (y,)) and torch.autograd.gradgradcheck(function, (y,))


def test_blocks_are_a_snapshot(backend):
    x, V, indices, route = product_case(5)
    blocks = V[indices.long()]
    before = ops.block_matmul(x, blocks, indices, route, 1.0)
    V.zero_()
    assert torch.equal(ops.block_matmul(x, blocks, indices, route, 1.0), before) and before.any()
