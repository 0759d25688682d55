"""What a plan predicts is what real stores take, within 15 %."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.base.sizes import Sizes, read_config, sizes_of
from memoir_fast.evaluation.facts import load_facts
from memoir_fast.journal.memory_state import MemoryState
from memoir_fast.journal.volatile import VolatileJournal
from memoir_fast.memory import drift, symmetric
from memoir_fast.memory.residual import ResidualMemory
from memoir_fast.memory.update import Update
from memoir_fast.reading.matching import token_codes
from memoir_fast.store import Store
from memoir_fast.store import plan as planning
from memoir_fast.store.plan import Plan
from tests.support.data import facts_file
from tests.support.models import tiny_memoir
from tests.support.stores import add, fact_of, new_store

_MOST = 0.15
_LLAMA = Sizes("LlamaForCausalLM", 14336, 4096, 32, 27, 128_256)


def near(found: float, predicted: float) -> bool:
    return abs(found - predicted) <= _MOST * predicted


def test_the_constants_are_those_of_the_modules_that_need_torch():
    assert (planning._MOST_BITS, planning._VECTORS) == (token_codes.MAX_BITS, drift.VECTORS)
    assert planning._STRIP == symmetric.STRIP
    assert inspect.signature(Store).parameters["compact_bytes"].default == planning.COMPACT_BYTES


@pytest.mark.parametrize(("dtype", "page_edits"), [("float32", 0), ("bfloat16", 0), ("float32", 10)])
def test_a_small_models_store_is_as_planned(tmp_path, dtype, page_edits):
    """The tensors alone: beside them the texts of so small a model weigh too much."""
    model = tiny_memoir(router="mask", threshold=0.7, steps=2, write="preconditioned", page_edits=page_edits)
    model.create_store(str(tmp_path / "s"), record_dtype=dtype)
    for number in range(25):
        model.edit(f"w{100 + number} w{number} w7", f"w{150 + number % 20}")
    model.store.compact()
    updates = [model.store.state.update_of(edit) for edit in range(25)]
    sizes = Sizes("x", model.memory.in_features, model.memory.out_features, 4, model.target.layer, 200)
    tokens = sum(len(update.features) for update in updates) / 25
    plan = Plan(sizes, model.config, 25, tokens, dtype)
    log, snapshot = (sum(path.stat().st_size for path in (tmp_path / "s").glob(name)) for name in ("log*", "snap*"))
    assert near(log / 25, plan.record()) and near(snapshot, plan.snapshot())


def test_a_real_models_store_is_as_planned(smollm2, tmp_path):
    """In a chat, with as many training tokens as its facts have; each is trained for a step, since that changes no size."""
    model = MemoirModel(*smollm2, MemoirConfig(steps=1))
    model.create_store(str(tmp_path / "s"), record_dtype="bfloat16", conflict="keep")
    facts = load_facts(facts_file("zsre.jsonl"), 24)
    model.edit_many([(fact.prompt, fact.target) for fact in facts])
    model.store.compact()
    model.save_pretrained(str(tmp_path / "m"))
    tokens = sum(len(model.store.state.update_of(edit).features) for edit in range(len(facts))) / len(facts)
    plan = Plan(sizes_of(read_config("smollm2")), MemoirConfig(), len(facts), tokens, "bfloat16")
    assert (plan.top_k, plan.sizes.layer) == (model.memory.top_k, model.target.layer)
    model.detach(), model.close()
    sizes = {path.name: path.stat().st_size for path in [*(tmp_path / "s").iterdir(), *(tmp_path / "m").iterdir()]}

    def of(*beginnings: str) -> int:
        return sum(size for name, size in sizes.items() if name.startswith(beginnings))

    assert near(of("log") / len(facts), plan.record()) and near(of("base"), plan.base_file())
    assert near(of("snapshot"), plan.snapshot()) and near(of("memory.saf", "edits.json"), plan.saved())


_OPENED = """
import ctypes, sys
import psutil
from memoir_fast.store import Store
small, large = sys.argv[1:]
Store(small).close()  # what is loaded once is no memory's
before = psutil.Process().memory_info().rss
store = Store(large)
ctypes.CDLL(None).malloc_trim(0)  # nor is what the allocator keeps of the file that was read
print(psutil.Process().memory_info().rss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is glibc's")
def test_an_opened_store_takes_the_main_memory_that_is_planned(tmp_path):
    """At the sizes of a model of a billion parameters, in a process of its own. Masks route, as words need a model."""
    D, d, k, edits = 4096, 1536, 1168, 100
    torch.manual_seed(0)
    config = MemoirConfig(layer="model.layers.1.mlp.down_proj", top_k=k, write="preconditioned", router="mask")
    memory = ResidualMemory(D, d, k)
    memory.track()
    known = {"architecture": "X", "in_features": D, "out_features": d}
    state = MemoryState(config, known, memory, ["a"], np.zeros((3, D // 8), np.uint8), VolatileJournal(memory))
    with new_store(tmp_path / "small") as small, Store.create(tmp_path / "large", state) as store:
        about = {name: value for name, value in fact_of(small, 0)[0].items() if name not in ("prompt", "target")}
        add(small, 0)
        for number in range(edits):
            rows = torch.randperm(D)[:k].sort().values.int()
            mask = np.zeros(D, np.uint8)
            mask[rows] = 1
            update = Update(rows, np.packbits(mask, bitorder="little"), 1.0, 1.0, moves=torch.randn(2, k), G=torch.randn(2, d), features=torch.randn(2, k))  # fmt: skip
            store.add([{"prompt": f"a question about subject {number}", "target": "an answer", **about}], [update])
        store.compact()
    command = [sys.executable, "-c", _OPENED, str(tmp_path / "small"), str(tmp_path / "large")]
    found = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    plan = Plan(Sizes("X", D, d, 4, 1, 0), config, edits, 2)
    assert near(found, plan.memory()["sum"]), (found, plan.memory())
    assert near(sum(path.stat().st_size for path in (tmp_path / "large").glob("snap*")), plan.snapshot())
    assert near(sum(path.stat().st_size for path in (tmp_path / "large").glob("log*")), plan.disk()["log"])


def test_what_a_plan_says_of_a_large_model():
    """LLaMA-3-8B: an edit in a chat takes at most 1.5 MB with records in bfloat16, whichever its masks."""
    spread = Plan(_LLAMA, edits=1000, record_dtype="bfloat16")
    assert spread.memory()["sum"] < 300e6 and spread.memory()["earlier reads"] < 32e6
    assert spread.top_k == 1432 and spread.record() < 0.5e6 and spread.with_records_of(spread.record()).tokens == 32
    touched = [Plan(_LLAMA, edits=edits).memory()["weights"] for edits in (1, 2, 11)]
    assert touched == [4 * 4096 * rows for rows in (1432, 2864, 14336)]
    config = MemoirConfig(masks="prompt")
    plans = {dtype: Plan(_LLAMA, config, 1000, record_dtype=dtype) for dtype in ("float32", "bfloat16")}
    assert plans["bfloat16"].top_k == 4096 and plans["bfloat16"].record() < 1e6 < plans["float32"].record() < 1.6e6
    assert plans["bfloat16"].memory()["weights"] == 4 * 14336 * 4096 and plans["bfloat16"].memory()[
        "earlier reads"
    ] == 2 * 14336 * (14336 + 128)
    assert plans["bfloat16"].snapshot() < 0.62 * 4 * 14336 * (14336 + 4096)
    without = Plan(_LLAMA, MemoirConfig(write="sgd", router="mask"), 1000)
    assert without.memory()["earlier reads"] == without.memory()["words"] == 0
    assert Plan(_LLAMA, edits=0).memory()["weights"] == 0 and Plan(_LLAMA, edits=0).disk()["log"] == 0
    assert Plan(_LLAMA).with_records_of(Plan(_LLAMA, tokens=77).record()).tokens == 77


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"edits": -1}, "edits must be 0 or more"),
        ({"tokens": 0}, "tokens more than 0"),
        ({"record_dtype": "float16"}, "record_dtype must be one of"),
        ({"config": MemoirConfig(top_k=20_000)}, r"top_k must be in \[1, 14336\]"),
    ],
)
def test_what_cannot_be_planned_is_told(given, message):
    with pytest.raises(ValueError, match=message):
        Plan(_LLAMA, **given)
