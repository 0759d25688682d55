"""Random shapes, strides, dtypes and mistakes: the reference's value, or an error that names the argument; never a crash."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memoir_fast import ops
from memoir_fast.ops import reference
from tests.support.operations import INTERPRETED, TOLERANCE, strided

BACKEND = "triton" if INTERPRETED else "cpp"
FUZZ = settings(max_examples=25 if INTERPRETED else 150, deadline=None, suppress_health_check=list(HealthCheck))
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True, scope="module")
def _backend():
    with ops.use_backend(BACKEND):
        yield


layouts = st.integers(0, 3)
sizes = st.one_of(st.integers(1, 70), st.sampled_from([127, 128, 129, 191, 500]))


@FUZZ
@given(st.data(), sizes, st.integers(0, 4), st.sampled_from(DTYPES), layouts, st.booleans(), st.integers(0, 2**31))
def test_tophash_is_the_references(data, D, batch, dtype, layout, ties, seed):
    k = data.draw(st.one_of(st.just(1), st.just(D), st.integers(1, D)))
    g = torch.Generator().manual_seed(seed)
    features = (
        torch.randint(-2, 3, (batch, D), generator=g).to(dtype)
        if ties
        else torch.randn(batch, D, generator=g).to(dtype)
    )
    background, permutation = torch.randn(D, generator=g) * (not ties), torch.randperm(D, generator=g).int()
    got = ops.tophash(strided(features, layout), background, permutation, k)
    want = reference.tophash(features, background, permutation, k)
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


@FUZZ
@given(
    st.data(),
    st.integers(1, 60),
    st.integers(1, 40),
    st.integers(0, 30),
    st.integers(0, 4),
    layouts,
    layouts,
    st.integers(0, 2**31),
)
def test_masked_matmul_is_the_references(data, D, d, rows, masks, x_layout, v_layout, seed):
    k = data.draw(st.one_of(st.just(1), st.just(D), st.integers(1, D)))
    dtype, v_dtype = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from(DTYPES[:2]))
    g = torch.Generator().manual_seed(seed)
    x, V = torch.randn(rows, D, generator=g).to(dtype), torch.randn(D, d, generator=g).to(v_dtype)
    indices = (
        torch.stack([torch.randperm(D, generator=g)[:k].sort().values for _ in range(masks)]).int()
        if masks
        else torch.zeros(0, k).int()
    )
    route = torch.randint(-1, masks, (rows,), generator=g).int()
    args = (strided(x, x_layout), strided(V, v_layout), indices, route, 0.7)
    blocks = strided(V[indices.long()], v_layout)
    want = reference.masked_matmul(x, V, indices, route, 0.7)
    tolerance = {"rtol": 2 * TOLERANCE[dtype], "atol": 20 * TOLERANCE[dtype]}
    got = ops.masked_matmul(*args)
    assert got.dtype == dtype and torch.allclose(got.float(), want.float(), **tolerance)
    got = ops.block_matmul(args[0], blocks, *args[2:])
    assert got.dtype == dtype and torch.allclose(got.float(), want.float(), **tolerance)
    out = strided(torch.randn(rows, d, generator=g).to(dtype), data.draw(layouts))
    expected, other = out.clone(), strided(out.clone(), data.draw(layouts))
    reference.masked_matmul_(expected, x, V, indices, route, 0.7)
    ops.masked_matmul_(out, *args)
    assert torch.allclose(out.float(), expected.float(), **tolerance)
    ops.block_matmul_(other, args[0], blocks, *args[2:])
    assert torch.allclose(other.float(), expected.float(), **tolerance)


@FUZZ
@given(st.data(), st.integers(1, 60), st.integers(1, 40), st.integers(0, 20), layouts, layouts, st.integers(0, 2**31))
def test_masked_scatter_is_the_references(data, D, d, n, v_layout, a_layout, seed):
    k = data.draw(st.integers(1, D))
    dtype, v_dtype = data.draw(st.sampled_from(DTYPES[:2])), data.draw(st.sampled_from(DTYPES[:2]))
    g = torch.Generator().manual_seed(seed)
    V, idx = torch.randn(D, d, generator=g).to(v_dtype), torch.randperm(D, generator=g)[:k].int()
    A, G = torch.randn(n, k, generator=g).to(dtype), torch.randn(n, d, generator=g).to(dtype)
    expected = V.clone()
    want = reference.masked_scatter_(expected, idx, A, G, 0.3)
    V = strided(V, v_layout)
    got = ops.masked_scatter_(V, idx, strided(A, a_layout), strided(G, a_layout), 0.3)
    assert torch.allclose(V.float(), expected.float(), rtol=2 * TOLERANCE[v_dtype], atol=20 * TOLERANCE[v_dtype])
    assert torch.allclose(got, want, rtol=1e-3, atol=1e-4)


def _arguments(op: str) -> dict:
    """Arguments that an operation accepts."""
    row = torch.tensor([0, 2, 7], dtype=torch.int32)
    return {
        "tophash": lambda: {"features": torch.randn(3, 8), "background": torch.zeros(8), "permutation": torch.arange(8).int(), "k": 3},
        "tophash_pooled": lambda: {"tokens": torch.randn(3, 8), "cu_seqlens": torch.tensor([0, 1, 3]).int(),
                                   "background": torch.zeros(8), "permutation": torch.arange(8).int(), "k": 3},
        "masked_matmul": lambda: {"x": torch.randn(3, 8), "V": torch.randn(8, 5), "indices": row[None],
                                  "route": torch.tensor([0, -1, 0]).int(), "scale": 1.0},
        "masked_matmul_": lambda: {"out": torch.zeros(3, 5), **_arguments("masked_matmul")},
        "block_matmul": lambda: {"x": torch.randn(3, 8), "blocks": torch.randn(1, 3, 5), "indices": row[None],
                                 "route": torch.tensor([0, -1, 0]).int(), "scale": 1.0},
        "block_matmul_": lambda: {"out": torch.zeros(3, 5), **_arguments("block_matmul")},
        "masked_scatter_": lambda: {"V": torch.randn(8, 5), "idx": row, "A": torch.randn(2, 3), "G": torch.randn(2, 5), "scale": 1.0},
    }[op]()  # fmt: skip


_MISTAKES = [
    lambda t: t[..., :0], lambda t: t[:-1], lambda t: t.unsqueeze(0), lambda t: t.to(torch.complex64), lambda t: t.bool(),
    lambda t: t.long() + 40, lambda t: t.int() + 40, lambda t: t.int() - 40, lambda t: t.to("meta"), lambda t: t.numpy(), lambda t: None,
    lambda t: t.to_sparse() if t.is_floating_point() else t[:0], lambda t: t * float("nan"), lambda t: t.requires_grad_(t.is_floating_point()),
]  # fmt: skip


@settings(FUZZ, max_examples=100 if INTERPRETED else 600)
@given(st.sampled_from(ops.OPERATIONS), st.data(), st.sampled_from(_MISTAKES))
def test_mistakes_are_named_or_harmless(op, data, mistake):
    arguments = _arguments(op)
    name = data.draw(st.sampled_from(sorted(arguments)))
    value = arguments[name]
    arguments[name] = mistake(value) if isinstance(value, torch.Tensor) else "1"
    try:
        getattr(ops, op)(**arguments)
    except (ValueError, TypeError) as error:
        assert any(word in str(error) for word in arguments), error
