"""The operations on every backend and SIMD level against a dense oracle; registration, gradients, refusals."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest
import torch

from memoir_fast import ops
from memoir_fast.ops import cpu as _cpu
from tests.support.models import bits, tiny_memoir

LEVELS = ["scalar", "avx2", "avx512"]
# test_triton_interpret.py runs this file once more in a process of its own, where Triton interprets its kernels.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BACKENDS = ["triton"] if INTERPRETED else ["reference", *(f"cpp-{level}" for level in LEVELS)]


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Runs the test once per backend and SIMD level, and proves which one serves."""
    name, _, level = request.param.partition("-")
    if name == "cpp":
        if not _cpu.available():
            pytest.fail("the C++ extension is not built: the install is broken")
        if level not in _cpu._C.levels():
            pytest.skip(f"this CPU has no {level}")
        before = _cpu.level()
        _cpu._C.set_level(level)
    with ops.use_backend(name):
        served = {"cpp": f"cpp ({level})", "triton": "triton (interpreted)"}.get(name, name)
        assert ops.backend_of("tophash") == served
        yield request.param
    if name == "cpp":
        _cpu._C.set_level(before)


def _case(dimension, seed=0, batch=3, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, dimension, generator=g).to(dtype)
    return features, torch.randn(dimension, generator=g), torch.randperm(dimension, generator=g).int()


def _dense_tophash(features, background, permutation, k):
    """One feature at a time, in Python: the k best by (magnitude, lower index)."""
    rows = []
    for feature in features.float():
        magnitude = (feature - background).abs().tolist()
        best = sorted(range(len(magnitude)), key=lambda i: (-magnitude[i], i))[:k]
        rows.append(sorted(int(permutation[i]) for i in best))
    signature = torch.zeros(len(rows), (features.shape[1] + 7) // 8, dtype=torch.uint8)
    for row, indices in enumerate(rows):
        for j in indices:
            signature[row, j // 8] |= 1 << (j % 8)
    return torch.tensor(rows, dtype=torch.int32).reshape(len(rows), k), signature


@pytest.mark.parametrize("kind", ["normal", "few values", "ascending", "the sample misleads"])
def test_tophash_of_many_features(backend, kind):
    """Sizes at which a sample brackets the cut: smooth data, ties all over, sorted data, and a sample that is not typical."""
    dimension = 5000
    features, background, permutation = _case(dimension, batch=2)
    if kind == "few values":
        features, background = (3 * features).round(), torch.zeros(dimension)
    elif kind == "ascending":
        features, background = torch.arange(2 * dimension).view(2, dimension).float(), torch.zeros(dimension)
    elif kind == "the sample misleads":
        features[:, torch.arange(512) * dimension // 512] *= 1e4  # what is sampled is larger than everything else
    for k in (1, 40, 1429, dimension - 3, dimension):
        got = ops.tophash(features, background, permutation, k)
        want = _dense_tophash(features, background, permutation, k)
        assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1]), k


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dimension", [1, 7, 64, 97, 1536])
def test_tophash(backend, dimension, dtype):
    for k in sorted({1, dimension, max(1, dimension * 2 // 7)}):
        case = _case(dimension, dtype=dtype)
        for got, want in zip(ops.tophash(*case, k), _dense_tophash(*case, k), strict=True):
            assert got.dtype == want.dtype and torch.equal(got, want)


def test_tophash_ties_go_to_the_lower_index(backend):
    features = torch.tensor([[1.0, -2.0, 2.0, 0.0, -2.0, 2.0, 1.0, -0.0]])
    indices, signature = ops.tophash(features, torch.zeros(8), torch.arange(8, dtype=torch.int32), 3)
    assert indices.tolist() == [[1, 2, 4]] and signature.tolist() == [[0b10110]]
    indices, _ = ops.tophash(torch.zeros(1, 100), torch.zeros(100), torch.arange(100, dtype=torch.int32), 7)
    assert indices.tolist() == [list(range(7))]


def test_tophash_of_halves_with_subnormals(backend):
    values = torch.tensor([[6e-8, -6.1e-5, 0.0, 1.2e-7, 65504.0, -3e-5]], dtype=torch.float16)
    indices, _ = ops.tophash(values, torch.zeros(6), torch.arange(6, dtype=torch.int32), 4)
    assert indices.tolist() == [[1, 3, 4, 5]]


def test_tophash_takes_strided_rows_and_no_rows(backend):
    features, background, permutation = _case(40)
    wide = torch.zeros(6, 100)
    wide[::2, 10:50] = features
    for strided in (wide[::2, 10:50], features.T.contiguous().T):
        assert torch.equal(
            ops.tophash(strided, background, permutation, 9)[0], ops.tophash(features, background, permutation, 9)[0]
        )
    indices, signature = ops.tophash(features[:0], background, permutation, 9)
    assert indices.shape == (0, 9) and signature.shape == (0, 5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_tophash_names_the_row_that_is_not_finite(backend, value):
    features, background, permutation = _case(40)
    features[2, 17] = value
    with pytest.raises(ValueError, match=r"NaN or infinity in row 2"):
        ops.tophash(features, background, permutation, 9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooled_is_tophash_of_means(backend, dtype):
    tokens, background, permutation = _case(97, batch=9, dtype=dtype)
    ends = torch.tensor([0, 1, 6, 9], dtype=torch.int32)
    means = torch.stack([tokens[a:b].float().mean(0) for a, b in itertools.pairwise(ends.tolist())])
    got = ops.tophash_pooled(tokens, ends, background, permutation, 20)
    want = ops.tophash(means, background, permutation, 20)
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])
    for bad, says in (([0, 3, 3, 9], "no token"), ([0, 4, 8], "from 0 to 9"), ([1, 4, 9], "from 0 to 9")):
        with pytest.raises(ValueError, match=says):
            ops.tophash_pooled(tokens, torch.tensor(bad, dtype=torch.int32), background, permutation, 20)


def _product_case(rows, dimension=50, d=33, masks=3, k=11, dtype=torch.float32, v_dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, V = torch.randn(rows, dimension, generator=g).to(dtype), torch.randn(dimension, d, generator=g).to(v_dtype)
    indices = torch.stack([torch.randperm(dimension, generator=g)[:k].sort().values for _ in range(masks)]).int()
    return x, V, indices, torch.randint(-1, masks, (rows,), generator=g).int()


def _dense_product(x, V, indices, route, scale):
    mask = torch.zeros(len(indices) + 1, x.shape[1], dtype=torch.float64)
    for line, idx in enumerate(indices):
        mask[line, idx.long()] = 1
    return scale * (mask[route.long()] * x.double()) @ V.double()  # route -1 takes the last row: no ones


TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3, torch.float64: 1e-12}


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 40])
@pytest.mark.parametrize(
    ("dtype", "v_dtype"),
    [(torch.float32,) * 2, (torch.bfloat16,) * 2, (torch.bfloat16, torch.float32), (torch.float16, torch.float32),
     (torch.float64,) * 2],
)  # fmt: skip
def test_masked_matmul(backend, rows, dtype, v_dtype):
    if dtype == torch.float64 and backend != "reference":
        with pytest.raises(ValueError, match="takes cpu tensors up to float32"):
            ops.masked_matmul(*_product_case(1, dtype=dtype, v_dtype=v_dtype), 1.0)
        return
    x, V, indices, route = _product_case(rows, dtype=dtype, v_dtype=v_dtype)
    want = _dense_product(x, V, indices, route, 0.7)
    got = ops.masked_matmul(x, V, indices, route, 0.7)
    assert got.dtype == dtype and got.shape == (rows, 33)
    assert torch.allclose(got.double(), want, rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])
    off = route == -1
    assert (got[off] == 0).all() and torch.signbit(got[off]).all()  # -0.0: adding it changes no bit
    out = torch.randn(rows, 33, generator=torch.Generator().manual_seed(1)).to(dtype)
    before = out.clone()
    ops.masked_matmul_(out, x, V, indices, route, 0.7)
    assert torch.allclose(out.double(), before.double() + want, rtol=TOLERANCE[dtype], atol=20 * TOLERANCE[dtype])
    assert torch.equal(bits(out[off]), bits(before[off]))


def test_masked_matmul_takes_views_and_no_masks(backend):
    x, V, indices, route = _product_case(8)
    want = ops.masked_matmul(x, V, indices, route, 1.0)
    wide_x, wide_v, wide_out = torch.zeros(16, 80), torch.zeros(50, 70), torch.zeros(16, 40)
    wide_x[::2, 5:55], wide_v[:, 3:36] = x, V
    got = ops.masked_matmul(wide_x[::2, 5:55], wide_v[:, 3:36], indices, route, 1.0)
    assert torch.allclose(got, want, atol=1e-5)
    assert torch.allclose(
        ops.masked_matmul(x.T.contiguous().T, V.T.contiguous().T, indices, route, 1.0), want, atol=1e-5
    )
    ops.masked_matmul_(wide_out[::2, 4:37], x, V, indices, route, 1.0)
    assert torch.allclose(wide_out[::2, 4:37], want, atol=1e-5)
    assert (wide_out[1::2] == 0).all() and (wide_out[:, :4] == 0).all() and (wide_out[:, 37:] == 0).all()
    nothing = ops.masked_matmul(x, V, indices[:0], torch.full((8,), -1, dtype=torch.int32), 1.0)
    assert torch.signbit(nothing).all()


def test_large_product_uses_threads_and_agrees(backend):
    x, V, indices, route = _product_case(3, dimension=4096, d=1024, masks=1, k=2500)
    route[:] = 0
    want = _dense_product(x, V, indices, route, 1.0)
    assert torch.allclose(ops.masked_matmul(x, V, indices, route, 1.0).double(), want, atol=1e-3)


def test_gradient_of_masked_matmul(backend):
    x, V, indices, route = _product_case(6, dimension=12, d=5, k=4)
    x.requires_grad_()
    ops.masked_matmul(x, V, indices, route, 0.5).square().sum().backward()
    y = x.detach().double().requires_grad_()
    _dense_product(y, V, indices, route, 0.5).square().sum().backward()
    assert torch.allclose(x.grad.double(), y.grad, atol=1e-5)


def test_gradients_in_double():
    x, V, indices, route = _product_case(6, dimension=12, d=5, k=4)
    y = x.double().requires_grad_()
    function = lambda t: ops.masked_matmul(t, V.double(), indices, route, 0.5)  # noqa: E731
    with ops.use_backend("auto"):
        assert torch.autograd.gradcheck(function, (y,)) and torch.autograd.gradgradcheck(function, (y,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n", [1, 6, 130])
def test_masked_scatter(backend, n, dtype):
    g = torch.Generator().manual_seed(n)
    V, idx = torch.randn(300, 37, generator=g), torch.randperm(300, generator=g)[:150].int()
    A, G = torch.randn(n, 150, generator=g).to(dtype), torch.randn(n, 37, generator=g).to(dtype)
    update = A.double().T @ G.double()
    want = V.double().index_add(0, idx.long(), 0.3 * update)
    squared = ops.masked_scatter_(V, idx, A, G, 0.3)
    assert squared.dtype == torch.float32 and squared.shape == ()
    assert torch.allclose(V.double(), want, atol=1e-4)
    assert float(squared) == pytest.approx(float(update.square().sum()), rel=1e-4)
    half = torch.zeros(300, 37, dtype=torch.bfloat16)
    ops.masked_scatter_(half, idx, A, G, 0.3)
    assert torch.allclose(
        half.double(), torch.zeros(300, 37).double().index_add(0, idx.long(), 0.3 * update), rtol=1e-2, atol=1e-2
    )


def test_mutating_operations_move_the_version_counter(backend):
    x, V, indices, route = _product_case(4)
    out = torch.zeros(4, 33)
    ops.masked_matmul_(out, x, V, indices, route, 1.0)
    ops.masked_scatter_(V, indices[0], torch.randn(2, 11), torch.randn(2, 33), 1.0)
    assert out._version > 0 and V._version > 0
    weight = torch.ones(4, 33, requires_grad=True)
    out = torch.zeros(4, 33)
    loss = (weight * out).sum()
    ops.masked_matmul_(out, x, V, indices, route, 1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_opcheck(backend):
    x, V, indices, route = _product_case(4)
    features, background, permutation = _case(40)
    ends = torch.tensor([0, 2, 3], dtype=torch.int32)
    check = torch.library.opcheck
    check(torch.ops.memoir_fast.tophash.default, (features, background, permutation, 9))
    check(torch.ops.memoir_fast.tophash_pooled.default, (features, ends, background, permutation, 9))
    check(torch.ops.memoir_fast.masked_matmul.default, (x.requires_grad_(), V, indices, route, 0.5))
    check(torch.ops.memoir_fast.masked_matmul_backward.default, (torch.randn(4, 33), V, indices, route, 0.5))
    check(torch.ops.memoir_fast.masked_matmul_.default, (torch.zeros(4, 33), x.detach(), V, indices, route, 0.5))
    A, G = torch.randn(2, 11), torch.randn(2, 33)
    check(torch.ops.memoir_fast.masked_scatter_.default, (V, indices[0], A, G, 1.0))


def test_the_edited_layer_compiles_as_one_graph():
    model = tiny_memoir()
    model.edit("w100 w101 w102", "w150")
    memory = model.memory
    indices, route = memory.indices_of(0)[None], torch.tensor([0, -1, 0], dtype=torch.int32)
    layer = model.model.get_submodule(model.target.path)

    def edited(x):
        return memory.read(x, layer(x), indices, route)

    x = torch.randn(3, 96)
    compiled = torch.compile(edited, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.allclose(compiled(x), edited(x), atol=1e-6)
    x.requires_grad_()
    assert torch.allclose(
        torch.autograd.grad(compiled(x).sum(), x)[0], torch.autograd.grad(edited(x).sum(), x)[0], atol=1e-6
    )


V0, IDX, ROUTE = torch.zeros(20, 4), torch.zeros(1, 3, dtype=torch.int32), torch.zeros(2, dtype=torch.int32)
X, BG, PERM = torch.zeros(2, 20), torch.zeros(20), torch.arange(20, dtype=torch.int32)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: ops.tophash(X[0], BG, PERM, 3), ValueError, "features must have 2 dimensions"),
        (lambda: ops.tophash(X.int(), BG, PERM, 3), ValueError, "features must be one of"),
        (lambda: ops.tophash([1.0], BG, PERM, 3), TypeError, "features must be a tensor"),
        (lambda: ops.tophash(X, BG[:9], PERM, 3), ValueError, "background must have 20"),
        (lambda: ops.tophash(X, BG, PERM.long(), 3), ValueError, "permutation must be one of"),
        (lambda: ops.tophash(X, BG, PERM + 1, 3), ValueError, "permutation must be in"),
        (lambda: ops.tophash(X, BG, PERM // 2, 20), ValueError, "permutation must hold each"),
        (lambda: ops.tophash(X, BG, PERM, 0), ValueError, "k must be"),
        (lambda: ops.tophash(X, BG, PERM, 21), ValueError, "k must be"),
        (lambda: ops.tophash(X, BG.to("meta"), PERM, 3), ValueError, "background is on meta"),
        (lambda: ops.masked_matmul(X[:, :5], V0, IDX, ROUTE, 1.0), ValueError, "must agree"),
        (lambda: ops.masked_matmul(X, V0.double(), IDX, ROUTE, 1.0), ValueError, "both be float64"),
        (lambda: ops.masked_matmul(X, V0, IDX + 20, ROUTE, 1.0), ValueError, "indices must be in"),
        (lambda: ops.masked_matmul(X, V0, IDX - 1, ROUTE, 1.0), ValueError, "indices must be in"),
        (lambda: ops.masked_matmul(X, V0, IDX, ROUTE + 1, 1.0), ValueError, "route must be in"),
        (lambda: ops.masked_matmul(X, V0, IDX, ROUTE - 2, 1.0), ValueError, "route must be in"),
        (lambda: ops.masked_matmul(X, V0, IDX, ROUTE[:1], 1.0), ValueError, "route must have 2"),
        (lambda: ops.masked_matmul(X, V0, IDX, ROUTE, "1"), ValueError, "scale must be a number"),
        (lambda: ops.masked_matmul(X, V0.clone().requires_grad_(), IDX, ROUTE, 1.0), ValueError, "V must not require grad"),
        (lambda: ops.masked_matmul_(torch.zeros(2, 3), X, V0, IDX, ROUTE, 1.0), ValueError, "out must have shape"),
        (lambda: ops.masked_matmul_(torch.zeros(2, 4).half(), X, V0, IDX, ROUTE, 1.0), ValueError, "out must be one of"),
        (lambda: ops.masked_matmul_(torch.zeros(2, 4), X.clone().requires_grad_(), V0, IDX, ROUTE, 1.0), ValueError, "inference"),
        (lambda: ops.masked_scatter_(V0, IDX[0], X[:, :2], X[:, :4], 1.0), ValueError, "A must have 3 columns"),
        (lambda: ops.masked_scatter_(V0, IDX[0], X[:, :3], X[:1, :4], 1.0), ValueError, "same number of rows"),
        (lambda: ops.masked_scatter_(V0, IDX[0], X[:, :3], X[:, :5], 1.0), ValueError, "G must have 4"),
        (lambda: ops.masked_scatter_(V0, IDX[0], X[:, :3], X[:, :4], 1.0), ValueError, "must not repeat"),
        (lambda: ops.masked_scatter_(V0, PERM[:3] + 18, X[:, :3], X[:, :4], 1.0), ValueError, "idx must be in"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(backend, call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_requested_backends_and_levels():
    with pytest.raises(ValueError, match="must be one of"), ops.use_backend("fast"):
        pass

    def run(**env):
        import os

        command = [sys.executable, "-m", "memoir_fast.ops"]
        return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True)

    plain = run()
    assert plain.returncode == 0 and "masked_scatter_  cpp" in plain.stdout
    assert "tophash          reference" in run(MEMOIR_FAST_BACKEND="reference").stdout
    assert "cpp (scalar)" in run(MEMOIR_FAST_SIMD="scalar").stdout
    wrong = run(MEMOIR_FAST_SIMD="mmx")
    assert wrong.returncode != 0 and "MEMOIR_FAST_SIMD must be one of scalar" in wrong.stderr
    wrong = run(MEMOIR_FAST_BACKEND="fpga")
    assert wrong.returncode != 0 and "MEMOIR_FAST_BACKEND must be one of" in wrong.stderr
