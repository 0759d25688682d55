"""What grows with the number of stored edits: `python -m benchmarks.speed.scaling`, and with `--store` what each call on a store costs

The memory is filled with synthetic masks (random ones, and no weights: editing for real would take days), then one edit, queries, memory,
saving and loading are measured at each size.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks import harness
from benchmarks.library import PLAIN, import_memory, load_facts
from benchmarks.models import load_model
from benchmarks.speed import scaling_store
from benchmarks.timing import seconds_of
from memoir_fast import MemoirConfig, MemoirModel


def filled(base, tokenizer, config: MemoirConfig, count: int, rng) -> MemoirModel:
    """A model with `count` random masks stored and an empty residual weight."""
    model = MemoirModel(base, tokenizer, config)
    if not count:
        return model
    memory = model.memory
    masks = np.zeros((count, memory.in_features), np.bool_)
    drawn = rng.random(masks.shape, dtype=np.float32).argpartition(memory.top_k, axis=1)[:, : memory.top_k]
    np.put_along_axis(masks, drawn, True, axis=1)
    tensors = {"new_weight": torch.zeros(memory.out_features, memory.in_features), "masks": torch.from_numpy(masks),
               "permutation": memory.permutation.long()}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        torch.save(tensors, Path(folder) / "memory.pt")
        import_memory(model, Path(folder) / "memory.pt")
    return model


def saved_and_loaded(model, base, tokenizer) -> tuple[dict, MemoirModel]:
    """What the memory's files take, and the memory read from them."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        model.save_pretrained(folder)
        saved = time.perf_counter() - began
        stored = sum(path.stat().st_size for path in Path(folder).iterdir())
        model.detach()
        began = time.perf_counter()
        model = MemoirModel.load(folder, base, tokenizer)
        loaded = time.perf_counter() - began
    return {"save_s": round(saved, 3), "load_s": round(loaded, 3), "file_mb": round(stored / 2**20, 2)}, model


def measure(base, tokenizer, size: int, warm, fact, rng) -> dict:
    """The costs with `size` edits stored, the last two of them made here: one to warm up, one that is timed."""
    model = filled(base, tokenizer, MemoirConfig(**PLAIN, threshold=0.95), size - 2, rng)
    try:
        model.edit(warm.prompt, warm.target)
        edit = model.edit(fact.prompt, fact.target)
        signature = model.memory.index.signature(edit.id)[None]
        files, model = saved_and_loaded(model, base, tokenizer)
        assert len(model.memory) == size and model.route(fact.prompt)["edit"] == edit.id
        return {
            "edits": size, "edit_s": round(edit.seconds, 3), "edit_steps": edit.steps,
            "query_ms": round(seconds_of(partial(model.route, fact.rephrase), 15) * 1e3, 3),
            "lookup_ms": round(seconds_of(partial(model.memory.index.nearest, signature), 200) * 1e3, 4),
            "signature_bytes": size * model.memory.index.width, "rss_mb": round(psutil.Process().memory_info().rss / 2**20), **files,
        }  # fmt: skip
    finally:
        model.detach()


def store(args) -> None:
    """Measure a store's calls, and print each one's ratio to its time with the fewest edits."""
    recorder, sizes = harness.Recorder("scaling_store", args), args.sizes or [15, 150, 1500, 15000]
    (base, tokenizer), (other, _), rows = load_model(args.model), load_model(args.model), []
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        for row in scaling_store.measured(base, other, tokenizer, sizes, Path(folder)):
            rows.append(row)
            print(f"{row['edits']} edits, a log of {row['log_mb']} MB")
            for name, taken in row["ms"].items():
                work = row["cpu_ms"][name]
                ratios = taken / rows[0]["ms"][name], work / rows[0]["cpu_ms"][name]
                print(
                    f"  {name:<34}{taken:12.2f} ms{ratios[0]:8.2f} x{work:12.2f} ms of the processor{ratios[1]:8.2f} x",
                    flush=True,
                )
    recorder.write({"model": args.model}, {"rows": rows})


def main() -> None:
    parser = harness.arguments(__doc__, model=True)
    parser.add_argument(
        "--sizes", type=int, nargs="+", help="how many edits, ascending (default: 10 to 10000, of a store 15 to 15000)"
    )
    parser.add_argument("--store", action="store_true", help="measure a store's calls instead of a memory's")
    parser.add_argument("--work", help="where the store is made (default: the system's temporary folder)")
    args = parser.parse_args()
    if args.store:
        return store(args)
    args.sizes = args.sizes or [10, 100, 1000, 10000]
    recorder = harness.Recorder("scaling", args)
    facts = load_facts(harness.SHIPPED, len(args.sizes) + 1)  # the last one warms up
    base, tokenizer = load_model(args.model)
    rng, rows = np.random.default_rng(0), []
    for number, size in enumerate(args.sizes):
        rows.append(measure(base, tokenizer, size, facts[-1], facts[number], rng))
        print(rows[-1], flush=True)
    recorder.write({"model": args.model}, {"rows": rows})


if __name__ == "__main__":
    main()
