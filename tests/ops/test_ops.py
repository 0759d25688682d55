"""What all operations share: registration, version counters, refusals, backends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from memoir_fast import ops
from memoir_fast.ops import cpu
from memoir_fast.ops.checks import all_finite
from memoir_fast.reading.routes import Routes
from tests.support.models import tiny_memoir
from tests.support.operations import LEVELS, product_case, tophash_case


@pytest.mark.parametrize("name", ["masked_matmul_", "block_matmul_"])
def test_products_in_place_move_the_version_counter(backend, name):
    x, V, indices, route = product_case(4)
    weights, add = V if name == "masked_matmul_" else V[indices.long()], getattr(ops, name)
    out = torch.zeros(4, 33)
    add(out, x, weights, indices, route, 1.0)
    assert out._version > 0
    weight = torch.ones(4, 33, requires_grad=True)
    out = torch.zeros(4, 33)
    loss = (weight * out).sum()
    add(out, x, weights, indices, route, 1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_scatter_moves_the_version_counter(backend):
    _, V, indices, _ = product_case(4)
    before = V._version
    ops.masked_scatter_(V, indices[0], torch.randn(2, 11), torch.randn(2, 33), 1.0)
    assert V._version > before


def test_opcheck(backend):
    x, V, indices, route = product_case(4)
    features, background, permutation = tophash_case(40)
    ends = torch.tensor([0, 2, 3], dtype=torch.int32)
    check = torch.library.opcheck
    check(torch.ops.memoir_fast.tophash.default, (features, background, permutation, 9))
    check(torch.ops.memoir_fast.tophash_pooled.default, (features, ends, background, permutation, 9))
    check(torch.ops.memoir_fast.masked_matmul.default, (x.requires_grad_(), V, indices, route, 0.5))
    check(torch.ops.memoir_fast.masked_matmul_backward.default, (torch.randn(4, 33), V, indices, route, 0.5))
    check(torch.ops.memoir_fast.masked_matmul_.default, (torch.zeros(4, 33), x.detach(), V, indices, route, 0.5))
    x, blocks = x.detach(), V[indices.long()]
    check(torch.ops.memoir_fast.block_matmul.default, (x.clone().requires_grad_(), blocks, indices, route, 0.5))
    check(
        torch.ops.memoir_fast.block_matmul_backward.default,
        (torch.randn(4, 33, requires_grad=True), blocks, indices, route, 0.5, 50),
    )
    check(torch.ops.memoir_fast.block_matmul_.default, (torch.zeros(4, 33), x, blocks, indices, route, 0.5))
    A, G = torch.randn(2, 11), torch.randn(2, 33)
    check(torch.ops.memoir_fast.masked_scatter_.default, (V, indices[0], A, G, 1.0))


def test_a_projection_and_what_routes_read_compile_as_one_graph():
    model = tiny_memoir()
    model.edit("w100 w101 w102", "w150")
    memory = model.memory
    indices, block = memory.block_of(0)
    rows = torch.tensor([0, -1, 0], dtype=torch.int32)
    routes = Routes([0, -1, 0], [1.0, 0.0, 1.0], rows, indices[None], block[None])
    layer = model.model.get_submodule(model.target.path)
    model.detach()  # the hook on the layer keeps its state in a context variable, which torch cannot trace

    def edited(x):
        return routes.read(x, layer(x), 1)

    x = torch.randn(3, 96)
    compiled = torch.compile(edited, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.allclose(compiled(x), edited(x), atol=1e-6)
    x.requires_grad_()
    assert torch.allclose(
        torch.autograd.grad(compiled(x).sum(), x)[0], torch.autograd.grad(edited(x).sum(), x)[0], atol=1e-6
    )


@pytest.mark.parametrize("dynamic", [False, True])
def test_block_matmul_compiles_as_one_graph(dynamic):
    x, V, indices, route = product_case(6)
    blocks = V[indices.long()]

    def read(x, base, route):
        if torch.is_grad_enabled():
            return base + ops.block_matmul(x, blocks, indices, route, 1.0)
        ops.block_matmul_(base, x, blocks, indices, route, 1.0)
        return base

    compiled = torch.compile(read, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for rows in (6, 5):
        some = x[:rows].clone(), torch.ones(rows, 33), route[:rows].clone()
        with torch.no_grad():
            assert torch.allclose(compiled(*some), read(some[0], torch.ones(rows, 33), some[2]), atol=1e-6)
        some[0].requires_grad_()
        got, want = (torch.autograd.grad(f(*some).square().sum(), some[0])[0] for f in (compiled, read))
        assert torch.allclose(got, want, atol=1e-5)


V0, IDX, ROUTE = torch.zeros(20, 4), torch.zeros(1, 3, dtype=torch.int32), torch.zeros(2, dtype=torch.int32)
X, BG, PERM = torch.zeros(2, 20), torch.zeros(20), torch.arange(20, dtype=torch.int32)
B0 = torch.zeros(1, 3, 4)


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
        (lambda: ops.block_matmul(X, B0[0], IDX, ROUTE, 1.0), ValueError, "blocks must have 3 dimensions"),
        (lambda: ops.block_matmul(X, B0[:, :2], IDX, ROUTE, 1.0), ValueError, r"blocks must have shape \(1, 3\)"),
        (lambda: ops.block_matmul(X, B0[:0], IDX, ROUTE, 1.0), ValueError, r"blocks must have shape \(1, 3\)"),
        (lambda: ops.block_matmul(X, B0.half(), IDX, ROUTE, 1.0), ValueError, "blocks must be one of"),
        (lambda: ops.block_matmul(X, B0.double(), IDX, ROUTE, 1.0), ValueError, "x and blocks must both be float64"),
        (lambda: ops.block_matmul(X, B0.numpy(), IDX, ROUTE, 1.0), TypeError, "blocks must be a tensor"),
        (lambda: ops.block_matmul(X, B0.to("meta"), IDX, ROUTE, 1.0), ValueError, "blocks is on meta"),
        (lambda: ops.block_matmul(X, B0.clone().requires_grad_(), IDX, ROUTE, 1.0), ValueError, "blocks must not require grad"),
        (lambda: ops.block_matmul(X, B0, IDX + 20, ROUTE, 1.0), ValueError, "indices must be in"),
        (lambda: ops.block_matmul(X, B0, IDX - 1, ROUTE, 1.0), ValueError, "indices must be in"),
        (lambda: ops.block_matmul(X, B0, IDX, ROUTE + 1, 1.0), ValueError, "route must be in"),
        (lambda: ops.block_matmul(X, B0, IDX, ROUTE - 2, 1.0), ValueError, "route must be in"),
        (lambda: ops.block_matmul(X, B0, IDX, ROUTE[:1], 1.0), ValueError, "route must have 2"),
        (lambda: ops.block_matmul(X, B0, IDX, ROUTE, BG), ValueError, "scale must be a number"),
        (lambda: ops.block_matmul_(torch.zeros(2, 3), X, B0, IDX, ROUTE, 1.0), ValueError, "out must have shape"),
        (lambda: ops.block_matmul_(torch.zeros(2, 4).half(), X, B0, IDX, ROUTE, 1.0), ValueError, "out must be one of"),
        (lambda: ops.block_matmul_(torch.zeros(2, 4), X.clone().requires_grad_(), B0, IDX, ROUTE, 1.0), ValueError, "use block_matmul where"),
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


@pytest.mark.parametrize("level", LEVELS[1:])
def test_a_simd_level_asks_the_cpu_for_all_that_it_is_compiled_with(level):
    source = (Path(__file__).parents[2] / "csrc" / "cpu" / f"level_{level}.cpp").read_text()
    compiled = re.search(r'#define MEMOIR_TARGET "(.*)"', source)[1].split(",")
    asked = re.findall(r'cpu_has\("(\w+)"\)', source)
    assert sorted(asked) == sorted(f for f in compiled if not f.startswith("prefer-")) and level in " ".join(asked)
    flags = {flag for line in _cpuinfo() if line.startswith("flags") for flag in line.split()}
    if flags:  # the kernel's names for the same features
        names = {"bmi": "bmi1"}
        assert (level in cpu._C.levels()) == all(names.get(f, f) in flags for f in asked)


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def test_requested_backends_and_levels():
    with pytest.raises(ValueError, match="must be one of"), ops.use_backend("fast"):
        pass

    def run(**env):
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_one_number_that_is_not_finite_is_found_wherever_it_is(dtype, bad):
    tensor = torch.randn(7, 33).to(dtype)
    assert all_finite(tensor) and all_finite(tensor[:0])
    assert all_finite(torch.full((3,), torch.finfo(dtype).max, dtype=dtype))
    for place in range(tensor.numel()):
        damaged = tensor.clone()
        damaged.view(-1)[place] = bad
        assert not all_finite(damaged)
