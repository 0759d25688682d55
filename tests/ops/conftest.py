"""The fixture that runs an operation's test on every backend."""

from __future__ import annotations

import pytest

from memoir_fast import ops
from memoir_fast.ops import cpu
from tests.support.operations import BACKENDS


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Runs the test once per backend and SIMD level, and proves which one serves."""
    name, _, level = request.param.partition("-")
    if name == "cpp":
        if not cpu.available():
            pytest.fail("the C++ extension is not built: the install is broken")
        if level not in cpu._C.levels():
            pytest.skip(f"this CPU has no {level}")
        before = cpu.level()
        cpu._C.set_level(level)
    with ops.use_backend(name):
        served = {"cpp": f"cpp ({level})", "triton": "triton (interpreted)"}.get(name, name)
        assert ops.backend_of("tophash") == served
        yield request.param
    if name == "cpp":
        cpu._C.set_level(before)
