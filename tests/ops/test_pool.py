"""The CPU kernels run on the workers of the OpenMP runtime that torch itself calls, wherever that library lies and whatever it is called."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from memoir_fast.ops import cpu
from tests.support.operations import INTERPRETED

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or INTERPRETED or not cpu.available(),
    reason="threads are started for each call, or the extension takes no part",
)

TORCH = Path(torch.__file__).parent
ROOT = Path(__file__).parents[2]
# What a process of its own says: the kernels' pool; whether torch hears what that library is told, so that it is the one torch calls; how many
# threads the kernels' product added to those that torch's had started; and whether threads of the extension's own give the same bits.
SAYS = """
import ctypes, json, os, torch
from memoir_fast import ops
from memoir_fast.ops import threads
from tests.support.operations import product_case

def product():
    return ops.masked_matmul(x, V, indices, route, 1.0).numpy().tobytes()

x, V, indices, route = product_case(3, dimension=4096, d=1024, masks=1, k=2500)
pool, before = threads.pool(), torch.get_num_threads()
library = None if pool == threads.OWN else ctypes.CDLL(pool)
heard = True
for count in (before + 2, 2):
    library and library.omp_set_num_threads(count)
    heard = heard and torch.get_num_threads() == count
torch.set_num_threads(2)
torch.randn(512, 512) @ torch.randn(512, 512)
started = len(os.listdir("/proc/self/task"))
shared = product()
added = len(os.listdir("/proc/self/task")) - started
threads.use_pool("")
print(json.dumps({"pool": pool, "heard": heard, "added": added, "same": shared == product(), "torch": torch.__file__}))
"""


def _said(*paths: Path, **environment: str) -> dict:
    """What a fresh process says, with these folders before all others on Python's path."""
    names = [*map(str, paths), str(ROOT), str(ROOT / "kernels")]
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(names), "OMP_NUM_THREADS": "2", **environment}
    done = subprocess.run([sys.executable, "-c", SAYS], env=given, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def runtime() -> Path:
    """The OpenMP runtime that this torch brings along."""
    found = sorted([*TORCH.glob("lib/libgomp*"), *TORCH.parent.glob("torch.libs/libgomp*")])
    if not found:
        pytest.skip("this torch brings no libgomp along")
    return found[0]


def _check(said: dict, library: Path) -> None:
    assert os.path.exists(said["pool"]) and os.path.samefile(said["pool"], library), said
    assert said["heard"] and said["added"] == 0 and said["same"], said


def test_the_runtime_of_a_wheel(runtime):
    _check(_said(), runtime)


def test_a_runtime_outside_of_torchs_folder(runtime, tmp_path):
    """As conda lays it out: torch in one folder, the libraries that it shares with others in another."""
    (tmp_path / "lib").mkdir()
    shutil.copy(runtime, tmp_path / "lib" / runtime.name)
    (tmp_path / "torch" / "lib").mkdir(parents=True)
    for entry in [*TORCH.iterdir(), *TORCH.glob("lib/*")]:
        if entry != TORCH / "lib" and entry != runtime:
            (tmp_path / entry.relative_to(TORCH.parent)).symlink_to(entry)
    said = _said(tmp_path, LD_LIBRARY_PATH=str(tmp_path / "lib"))
    assert said["torch"] == str(tmp_path / "torch" / "__init__.py")
    _check(said, tmp_path / "lib" / runtime.name)


def test_a_runtime_that_is_preloaded(runtime, tmp_path):
    """Under any name: torch's calls go to it, though its own library lies where it always did."""
    shutil.copy(runtime, tmp_path / "libworkers.so")
    _check(_said(LD_PRELOAD=str(tmp_path / "libworkers.so")), tmp_path / "libworkers.so")
