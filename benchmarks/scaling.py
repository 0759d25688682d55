"""What grows with the number of stored edits: `python -m benchmarks.scaling --json out.json`

The memory is filled with synthetic signatures (random masks; editing for real would take days), then one edit, queries, memory,
saving and loading are measured at each size.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.base.loading import load_model
from memoir_fast.evaluation.facts import load_facts

from . import harness


def fill(model, count: int, rng) -> None:
    """Store random masks until `count` edits are there."""
    missing = count - len(model.memory)
    if missing <= 0:
        return
    dimension, k = model.memory.in_features, model.memory.top_k
    bits = np.zeros((missing, dimension), np.uint8)
    np.put_along_axis(
        bits, rng.random((missing, dimension), dtype=np.float32).argpartition(k, axis=1)[:, :k], 1, axis=1
    )
    ids = list(range(model.next_id, model.next_id + missing))
    model.memory.index.add(ids, np.packbits(bits, axis=1, bitorder="little"))
    blank = {"prompt": "synthetic", "target": "synthetic", "created": "2026-01-01T00:00:00+00:00", "loss": 0.0, "steps": 0,
             "seconds": 0.0, "nearest": None, "overlap": 0.0}  # fmt: skip
    for i in ids:
        model.edits[i] = {**blank, "id": i}
    model._next_id += missing


def seconds_of(call, runs: int) -> float:
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    parser = harness.arguments(__doc__, model=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000, 10000])
    args = parser.parse_args()
    facts = load_facts(harness.SHIPPED, len(args.sizes) + 1)  # the last one warms up
    base, tokenizer = load_model(args.model)
    model = MemoirModel(base, tokenizer, MemoirConfig(threshold=0.95))
    rng, process, rows = np.random.default_rng(0), psutil.Process(), []
    model.edit(facts[-1].prompt, facts[-1].target)
    for number, size in enumerate(args.sizes):
        fill(model, size - 1, rng)
        fact = facts[number]
        edit = model.edit(fact.prompt, fact.target)
        signature = model.memory.index.signature(edit.id)[None]
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            model.save_pretrained(folder)
            saved = time.perf_counter() - began
            stored = sum(path.stat().st_size for path in Path(folder).iterdir())
            model.detach()
            began = time.perf_counter()
            model = MemoirModel.load(folder, base, tokenizer)
            loaded = time.perf_counter() - began
        assert len(model.memory) == size and model.route(fact.prompt)["edit"] == edit.id
        rows.append({
            "edits": size, "edit_s": round(edit.seconds, 3), "edit_steps": edit.steps,
            "query_ms": round(seconds_of(partial(model.route, fact.rephrase), 15) * 1e3, 3),
            "lookup_ms": round(seconds_of(partial(model.memory.index.nearest, signature), 200) * 1e3, 4),
            "signature_bytes": model.memory.index._codes.view.nbytes, "rss_mb": round(process.memory_info().rss / 2**20),
            "save_s": round(saved, 3), "load_s": round(loaded, 3), "file_mb": round(stored / 2**20, 2),
        })  # fmt: skip
        print(rows[-1], flush=True)
    if args.json:
        harness.write(args.json, {"environment": harness.environment(), "model": args.model, "rows": rows})


if __name__ == "__main__":
    main()
