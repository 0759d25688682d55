"""What finding an edit by words adds to the time to first token: `python -m benchmarks.speed.routing_cost --facts zsre.jsonl`

A memory is filled with as many facts as asked for (their wordings, random masks and a random residual weight: nothing is trained), then each
prompt is read in turns by the base model alone and with the memory attached. Every prompt is timed once, so no look-up finds its words
in a cache from the same prompt; the order of the two turns alternates. Times are the process's CPU seconds: other programs disturb them least.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import harness
from benchmarks.library import EditRecord
from memoir_fast import MemoirConfig, MemoirModel, load_model

CONTEXT = "I am preparing the notes for our next meeting, and some of what we wrote down last year is missing or has changed since then. "
READING = "The others will read this page before they come, so it should be short and right. "
TOKENS = 200  # of a long prompt


def filled(base, tokenizer, prompts: list[str], router: str) -> MemoirModel:
    """A model with these prompts stored, edit by edit."""
    model = MemoirModel(base, tokenizer, MemoirConfig(router=router))
    memory, count, rng = model.memory, len(prompts), np.random.default_rng(0)
    masks = np.zeros((count, memory.in_features), np.bool_)
    drawn = rng.random(masks.shape, dtype=np.float32).argpartition(memory.top_k, axis=1)[:, : memory.top_k]
    np.put_along_axis(masks, drawn, True, axis=1)
    V = torch.randn(memory.V.shape, generator=torch.Generator().manual_seed(0)) * 0.01
    rows = [EditRecord(id=edit, prompt=prompt, target="").row() for edit, prompt in enumerate(prompts)]
    with model.journal.writing, memory.lock:
        memory.fill(V, 1.0, range(count), np.packbits(masks, axis=1, bitorder="little"), memory.reads)
        model.journal.state.adopt(rows, count, Path("benchmark"))
    return model


@contextmanager
def timed(place: Any, name: str, taken: dict[str, list[float]]):
    """Collects the CPU seconds of each call of a method."""
    method = getattr(place, name)

    def call(*args, **kwargs):
        began = time.process_time()
        found = method(*args, **kwargs)
        taken.setdefault(name, []).append(time.process_time() - began)
        return found

    setattr(place, name, call)
    try:
        yield
    finally:
        delattr(place, name)


def prefill(model: MemoirModel, tokens: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The last position's logits, and the CPU seconds to them."""
    began = time.process_time()
    with torch.no_grad():
        logits = model.model(input_ids=tokens, logits_to_keep=1).logits
    return logits, time.process_time() - began


def in_turns(model: MemoirModel, prompts: list[torch.Tensor], check: Callable[[int, bool], None]) -> dict:
    """Each prompt with the memory and without; check(number, equal bits) is called after each."""
    times: list[tuple[float, float]] = []
    for number, tokens in enumerate(prompts):
        found = {}
        for attached in (True, False) if number % 2 else (False, True):
            (model.attach if attached else model.detach)()
            found[attached] = prefill(model, tokens)
        model.attach()
        check(number, torch.equal(found[True][0], found[False][0]))
        times.append((found[True][1], found[False][1]))
    added = [1e3 * (ours - base) for ours, base in times]
    return {
        "base_ms": round(1e3 * statistics.median(base for _, base in times), 2),
        "added_ms": round(statistics.median(added), 3),
        "ratio": round(statistics.median(ours / base for ours, base in times), 4),
        "tokens": statistics.median(tokens.shape[1] for tokens in prompts),
        "pairs": len(times),
    }


def parts(model: MemoirModel, prompts: list[torch.Tensor]) -> dict:
    """Medians of what the words' rule does in a forward pass, in milliseconds of CPU time."""
    rule, taken = model.router.words, {}
    places = [
        (rule, "queries"),
        (rule, "best"),
        (rule.keys.matcher, "probabilities"),
        (model.router, "decide_by_words"),
    ]
    with ExitStack() as stack:
        for place, name in places:
            stack.enter_context(timed(place, name, taken))
        for tokens in prompts:
            prefill(model, tokens)
    names = {
        "decide_by_words": "routing_ms",
        "queries": "tap_ms",
        "best": "look_up_ms",
        "probabilities": "verification_ms",
    }
    found = {names[name]: round(1e3 * statistics.median(some), 3) for name, some in taken.items()}
    base = statistics.median(prefill(model, tokens)[1] for tokens in prompts)
    return found | {"share": round(statistics.median(taken["decide_by_words"]) / base, 4)}


def measure(model: MemoirModel, facts: list[dict], count: int) -> dict:
    """Short and long prompts, those that read an edit and those that read none."""
    found: dict[str, Any] = {}
    opening = CONTEXT + READING
    while len(model.encoder.prompt(opening + facts[0]["prompt"]).tokens) < TOKENS:
        opening += READING if "page" in opening else CONTEXT
    for length, before in (("short", ""), ("long", opening)):
        for kind, way in (("matched", "prompt"), ("unmatched", "locality_prompt")):
            asked = [before + fact[way] for fact in facts[:count]]
            prompts = [torch.tensor([model.encoder.prompt(text).tokens], device=model.model.device) for text in asked]
            read: list[int] = []

            def check(number: int, equal: bool, kind: str = kind, read: list = read, facts: list = facts) -> None:
                edit = model.router.last.edits[0]
                read.append(edit)
                assert equal == (edit < 0), (
                    "a prompt that reads nothing keeps every bit, one that reads an edit does not"
                )

            prefill(model, prompts[0])
            found[f"{length}_{kind}"] = in_turns(model, prompts, check)
            if kind == "matched":
                right = sum(e >= 0 and facts[e]["prompt"] == facts[i]["prompt"] for i, e in enumerate(read))
                found[f"{length}_{kind}"]["right"] = right / len(read)
            else:
                found[f"{length}_{kind}"]["kept_out"] = sum(edit < 0 for edit in read) / len(read)
            if model.router.words is not None:
                found[f"{length}_{kind}"] |= parts(model, prompts)
            print(length, kind, found[f"{length}_{kind}"], flush=True)
    return found


def main() -> None:
    parser = harness.arguments(__doc__, model=True)
    parser.add_argument("--facts", required=True, help="JSONL of facts with a prompt and a locality_prompt")
    parser.add_argument("--stored", type=int, default=1000)
    parser.add_argument("--prompts", type=int, default=30, help="of each kind")
    parser.add_argument("--routers", nargs="+", choices=("tokens", "mask"), default=["tokens", "mask"])
    args = parser.parse_args()
    recorder = harness.Recorder("routing_cost", args)
    facts = [json.loads(line) for line in Path(args.facts).read_text("utf-8").splitlines()][: args.stored]
    base, tokenizer = load_model(args.model)
    result = {}
    for router in args.routers:
        with filled(base, tokenizer, [fact["prompt"] for fact in facts], router) as model:
            print(router, flush=True)
            result[router] = measure(model, facts, args.prompts)
    settings = {"model": args.model, "facts": Path(args.facts).name, "stored": len(facts), "prompts": args.prompts}
    recorder.write(settings, {"routers": result})


if __name__ == "__main__":
    main()
