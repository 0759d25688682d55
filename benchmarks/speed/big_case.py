"""One shape in one dtype, in a process of its own: what `bigmodel.py` measures of it."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import memoir_fast
from benchmarks.library import Replay, Suffix, command_line, default_layer, load_facts
from benchmarks.speed.big_shapes import SHAPES, below_on_disk, config_of, make_model, tokenizer_for
from benchmarks.speed.big_watch import Passes, Peak, Taken, by_autograd, middle, resident, watched
from benchmarks.speed.products import Products, products_of
from benchmarks.speed.scaling_store import Edits
from memoir_fast import BackgroundTexts, MemoirConfig, MemoirModel

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
# How near a step's losses and gradient must be to autograd's through the model's own code, which rounds to the model's dtype after every
# operation: relative difference of the losses, cosine of the gradients.
NEAR = {"bfloat16": (0.03, 0.98), "float32": (1e-3, 0.9999)}
CANDIDATES = 4096  # rows of the output embedding that take part in a step over the likeliest tokens
TEXTS = 150  # unrelated prompts that a memory is measured with
LAST = ("Who chairs the harbour board of Tellmark?", "Ida Brandt")  # edited once the memory is filled
FALLEN = 0.5  # an edit's last loss must be below this share of its first


def measured(name: str, dtype: str, args: argparse.Namespace, place: str = "memory") -> dict[str, Any]:
    """Everything about one case. Memory is in MB (10^6 bytes): `base_mb` is the process with the base model, which has answered once; peaks and
    `kept_mb`, what stays of the same edits when they are gone, are above that; `stored_mb`, what a filled memory takes, is above both.

    Args:
        name, dtype: the shape, and the dtype of its weights.
        place: "memory", or "disk" for the layers up to the one with the memory.
    """
    shape, facts = SHAPES[name], load_facts(args.edits, args.count)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        tokenizer = tokenizer_for(shape.settings["vocab_size"])
        stack.enter_context(_cache(folder))  # what is measured of a random model is of no use to anybody
        planned = _planned(shape, args, folder)
        base_model = make_model(shape, DTYPES[dtype])
        parameters, size = (sum(each(p) for p in base_model.parameters()) for each in (torch.numel, lambda p: p.nbytes))
        if place == "disk":
            layer = default_layer(len(base_model.model.layers)) if shape.layer is None else shape.layer
            base_model = below_on_disk(base_model, Path(folder, "checkpoint"), layer)
        _answer(base_model, tokenizer)
        base, config = resident(), MemoirConfig(layer=shape.layer, precision=args.precision)
        found: dict[str, Any] = {"shape": name, "dtype": dtype, "place": place, "base_mb": _mb(base), "parameters": parameters, "weights_mb": _mb(size)}  # fmt: skip
        found |= _first(base_model, tokenizer, config, [(fact.prompt, fact.target) for fact in facts], base)
        warm = resident()
        model = MemoirModel(base_model, tokenizer, config, _texts())
        stack.callback(model.close), stack.callback(model.detach)
        found |= {"layer": model.target.layer, "layers_above": len(_above(model)), "kept_mb": _mb(warm - base)}
        model.create_store(f"{folder}/store", record_dtype=args.record_dtype)
        passes, edits = _edited(model, facts, base)
        record = _log(folder) // len(facts)
        found |= edits
        found |= _filled(model, args.stored, base, warm)
        found |= {"record_bytes": record, "store_mb": _mb(_size(Path(folder) / "store")), "planned": planned}
        # Last, because torch keeps code for the shapes of these products as well.
        found |= _against_floor(model, passes) | _checked(model, passes[-1], dtype)
        return found | {"off": _off(found, planned)}


def _texts() -> BackgroundTexts:
    """As many of the shipped unrelated prompts as a memory needs at least: all of them take minutes."""
    lines = (Path(memoir_fast.__file__).parent / "data" / "background.jsonl").read_text("utf-8").splitlines()
    step = len(lines) / TEXTS  # questions come first, then statements
    records = [json.loads(lines[int(number * step)]) for number in range(TEXTS)]
    return BackgroundTexts([(record["prompt"], record.get("answer") or "") for record in records])


@torch.no_grad()
def _answer(base_model: Any, tokenizer: Any) -> None:
    tokens = tokenizer("The base model answers once before anything is measured.", return_tensors="pt")["input_ids"]
    base_model(input_ids=tokens, use_cache=False)


def _first(
    base_model: Any, tokenizer: Any, config: MemoirConfig, facts: list[tuple[str, str]], base: int
) -> dict[str, Any]:
    """Attach a memory to the model for the first time, which measures it, make all the edits, and detach. What is left then is no memory's: torch keeps
    code for every shape of a product, and Python its modules."""
    peak, began = Peak(), time.perf_counter()
    model = MemoirModel(base_model, tokenizer, config, _texts())
    took, most = time.perf_counter() - began, peak.bytes()
    for prompt, target in [*facts, LAST]:
        model.edit(prompt, target)
    model.detach(), model.close()
    del model
    gc.collect()
    return {"attach_s": round(took, 1), "attach_peak_mb": _mb(most - base)}


def _edited(model: MemoirModel, facts: list, base: int) -> tuple[list[Passes], dict[str, Any]]:
    """Edit some facts; the loss of each must fall."""
    peak = Peak()
    with watched() as passes:
        results = [model.edit(fact.prompt, fact.target) for fact in facts]
    for result, seen in zip(results, passes, strict=True):
        if not result.loss < FALLEN * seen.losses[0]:
            raise SystemExit(f"the loss of an edit went from {seen.losses[0]} to {result.loss}, which is no edit")
        assert len(seen.began) > 2, "an edit has a first step and others"
    return passes, {
        "edits": len(facts), "edit_s": round(statistics.median(r.seconds for r in results), 3), "passes": [len(p.began) for p in passes],
        "losses": [[round(p.losses[0], 3), round(r.loss, 4)] for p, r in zip(passes, results, strict=True)], "prefix_s": [round(p.prefix_s, 3) for p in passes],
        "edit_peak_mb": _mb(peak.bytes() - base), "path": passes[0].kind,
    }  # fmt: skip


def _against_floor(model: MemoirModel, passes: list[Passes]) -> dict[str, Any]:
    """Seconds of the steps, and what their matrix products take by themselves. An edit's first step does not count for the ratio."""
    first: list[Taken] = []
    steps: dict[bool, list[Taken]] = {True: [], False: []}
    floors: dict[bool, list[Taken]] = {True: [], False: []}
    for edit in passes:
        taken = {full: _products(model, edit, full).seconds() for full in sorted(set(edit.full))}
        first.append(edit.steps()[0])
        for full, seconds in list(zip(edit.full, edit.steps(), strict=False))[1:]:
            steps[full].append(seconds), floors[full].append(taken[full])
    found: dict[str, Any] = {"first_step_s": round(middle(first).wall, 4)}
    for full, kind in ((True, "full"), (False, "sparse")):
        if steps[full]:
            found[kind] = {"steps": len(steps[full])} | _beside(steps[full], floors[full])
    sizes = {name: [len(getattr(p.layout, name)) for p in passes] for name in ("tokens", "acting", "aims")}
    operations = round(_products(model, passes[-1], True).operations / 1e9, 1)
    return found | _beside([*steps[True], *steps[False]], [*floors[True], *floors[False]]) | sizes | {"last_full_gflop": operations}  # fmt: skip


def _beside(steps: list[Taken], floors: list[Taken]) -> dict[str, float]:
    """Medians of steps and floors, and the ratio of their sums, by the wall's clock and by the processor's."""
    step, floor = middle(steps), middle(floors)
    ratios = {name: round(sum(getattr(s, clock) for s in steps) / sum(getattr(f, clock) for f in floors), 3) for name, clock in (("ratio", "wall"), ("ratio_cpu", "work"))}  # fmt: skip
    return {"step_s": round(step.wall, 4), "floor_s": round(floor.wall, 4), "step_cpu_s": round(step.work, 4), "floor_cpu_s": round(floor.work, 4)} | ratios  # fmt: skip


def _products(model: MemoirModel, edit: Passes, full: bool) -> Products:
    head = len(model.model.get_output_embeddings().weight)
    rows = head if full else min(CANDIDATES, head)
    return Products(products_of(model.model, _above(model), len(edit.layout.acting), len(edit.layout.aims), rows))


def _checked(model: MemoirModel, edit: Passes, dtype: str) -> dict[str, Any]:
    """One more pass of an edit's, beside autograd's through the whole model."""
    kind = {"Suffix": Suffix, "Replay": Replay}[edit.kind]
    with model.disabled():
        ours = kind(model.model, model.router, model.target, edit.layout)
    base = ours.outputs.reshape(-1, ours.outputs.shape[-1])[edit.layout.tokens[edit.layout.acting]].float()
    outputs = base + 0.1 * base.std() * torch.randn(base.shape, generator=torch.Generator().manual_seed(0))
    losses, gradient = ours.losses_and_gradient(outputs)
    wanted_losses, wanted = by_autograd(model, edit.layout, outputs)
    off = float(((losses - wanted_losses) / wanted_losses).abs().max())
    cosine = float(torch.nn.functional.cosine_similarity(gradient.flatten(), wanted.flatten(), 0))
    most, least = NEAR[dtype]
    if not (off <= most and cosine >= least):
        raise SystemExit(f"{edit.kind} is not autograd's: losses {off:.2g} off, cosine of the gradients {cosine:.5f}")
    return {"oracle": {"losses_off": round(off, 6), "gradient_cosine": round(cosine, 6)}}


def _filled(model: MemoirModel, count: int, base: int, warm: int) -> dict[str, Any]:
    """What a memory with many edits takes: generated ones with random updates beside those that were learned, and one more edit."""
    store, edits = model.store, Edits(model, count + 10)
    while store.next_id < count - 1:
        fact, update = edits.one(store.memory.scale)
        store.add([fact], [replace(update, page=store.memory.page_of(store.next_id))])
    kept, peak = resident(), Peak()
    model.edit(*LAST)
    return {"stored": store.next_id, "stored_mb": _mb(kept - warm), "stored_edit_peak_mb": _mb(peak.bytes() - base)}


def _planned(shape: Any, args: argparse.Namespace, folder: str) -> dict[str, Any]:
    """`memoir-fast plan` for as many edits, from the configuration alone."""
    config_of(shape).save_pretrained(f"{folder}/shape")
    words = [
        "plan",
        "--model",
        f"{folder}/shape",
        "--edits",
        str(args.stored),
        "--record-dtype",
        args.record_dtype,
        "--json",
        f"{folder}/plan.json",
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        command_line([*words, *([] if shape.layer is None else ["--layer", str(shape.layer)])])
    told = json.loads(Path(folder, "plan.json").read_text())
    return {"stored_mb": _mb(told["memory"]["sum"]), "record_bytes": told["record"], "parts_mb": {name: _mb(size) for name, size in told["memory"].items()}}  # fmt: skip


def _off(found: dict[str, Any], planned: dict[str, Any]) -> dict[str, float]:
    """How far what was measured is from what was planned, as a share of the plan."""
    return {name: round(found[name] / planned[name] - 1, 3) for name in ("stored_mb", "record_bytes")}


def _above(model: MemoirModel) -> list:
    return list(model.model.get_submodule(model.target.layers_path))[model.target.layer + 1 :]


def _log(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder, "store").glob("log-*"))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _mb(size: float) -> float:
    return round(size / 1e6, 1)


@contextlib.contextmanager
def _cache(folder: str) -> Any:
    before = os.environ.get("MEMOIR_FAST_CACHE")
    os.environ["MEMOIR_FAST_CACHE"] = f"{folder}/cache"
    try:
        yield
    finally:
        del os.environ["MEMOIR_FAST_CACHE"]
        if before is not None:
            os.environ["MEMOIR_FAST_CACHE"] = before
