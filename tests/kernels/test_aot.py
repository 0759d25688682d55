"""Every GPU kernel compiles ahead of time, in each configuration, within the registers and shared memory of its chip."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")

from memoir_fast_kernels import aot  # noqa: E402


@pytest.mark.parametrize("target", aot.TARGETS)
def test_triton_kernels_fit(target):
    for case in aot.cases(target):
        found = aot.resources(case.compile(target), target)
        assert 0 < found["registers"] <= (512 if target == "gfx942" else 255), (case.name, found)
        assert found["shared"] <= aot.SHARED_LIMIT[target], (case.name, found)
        # TopHash holds a prompt's keys in registers: of the largest masks 64 bytes a thread do not fit (more in LLVM's hands). No other
        # kernel may spill.
        allowed = 0 if not case.name.startswith("tophash") else 1 << 10 if target == "gfx942" else 64
        assert found["stack"] <= allowed, (case.name, found)


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
def test_cuda_scatter_fits(target, tmp_path):
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not installed")
    source = Path(__file__).parents[2] / "csrc" / "cuda" / "masked_scatter.cu"
    cubin = tmp_path / "scatter.cubin"
    subprocess.run(
        ["nvcc", "-cubin", f"-arch={target}", "-std=c++17", "-O3", str(source), "-o", str(cubin)], check=True
    )
    found = aot.cubin_resources(cubin.read_bytes())
    assert found["registers"] <= 255 and found["stack"] == 0 and found["shared"] <= 48 << 10, found


def test_the_extension_is_built_where_nvcc_is():
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not installed")
    from memoir_fast.ops import _cuda

    assert _cuda.blocks(129, 4097) == 129 * 5
    with pytest.raises(ValueError, match="v_dtype must be"):
        _cuda.masked_scatter(0, 7, 1, 1, 0, 1, 0, 1.0, 0, 0, 0, 0)
