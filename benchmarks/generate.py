"""What the memory costs in generation: `python -m benchmarks.generate --json out.json`

Greedy generation of 64 tokens, batch 1 and 8, by the unedited model, by the edited one on prompts that match nothing, and on
prompts that each match another edit, in turns. Overheads are fractions over the unedited model's time on the same prompts, the
worse of both batch sizes; the medians of pairs taken one after the other.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.facts import load_facts
from memoir_fast.hub import load_model

from . import harness
from .edit_speed import SHIPPED


def prompts_as_batch(model, texts: list[str]) -> dict:
    """Left-padded tokens with their attention mask."""
    rows = [model.encoder.prompt(text).tokens for text in texts]
    width = max(map(len, rows))
    tokens, mask = torch.zeros(len(rows), width, dtype=torch.int64), torch.zeros(len(rows), width, dtype=torch.int64)
    for row, ids in enumerate(rows):
        tokens[row, width - len(ids) :] = torch.tensor(ids)
        mask[row, width - len(ids) :] = 1
    return {"inputs": tokens, "attention_mask": mask}


@torch.no_grad()
def generation(model, batch: dict, new_tokens: int, disabled: bool):
    """A call that generates exactly `new_tokens` tokens."""
    settings = {"min_new_tokens": new_tokens, "max_new_tokens": new_tokens, "do_sample": False, "pad_token_id": 0}

    def call():
        if disabled:
            with model.disabled():
                return model.generate(**batch, **settings)
        return model.generate(**batch, **settings)

    return call


def base_call(base, batch: dict, new_tokens: int):
    """The same by the model without any memory attached."""
    settings = {"min_new_tokens": new_tokens, "max_new_tokens": new_tokens, "do_sample": False, "pad_token_id": 0}
    return lambda: base.generate(**batch, **settings)


def overhead(base, edited, runs: int) -> tuple[float, list[float]]:
    """Median of the pairs' relative extra time, and the base's seconds."""
    base(), edited()
    pairs = []
    for run in range(runs):
        calls = [base, edited] if run % 2 else [edited, base]
        taken = {}
        for call in calls:
            began = time.perf_counter()
            call()
            taken[call] = time.perf_counter() - began
        pairs.append((taken[base], taken[edited]))
    return statistics.median(b / a - 1 for a, b in pairs), [a for a, _ in pairs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="where to write the result")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=7, help="pairs of each kind")
    parser.add_argument(
        "--steps", type=int, default=8, help="SGD steps of the eight edits (their quality does not matter here)"
    )
    args = parser.parse_args()
    facts = load_facts(SHIPPED, 8)
    model = MemoirModel(*load_model(args.model), MemoirConfig(threshold=0.6, steps=args.steps))
    base = load_model(args.model)[0]
    for fact in facts:
        model.edit(fact.prompt, fact.target)
    found = {"environment": harness.environment(), "model": args.model, "new_tokens": args.tokens, "runs": args.runs}
    for name in ("unmatched", "matched"):
        texts = [fact.prompt if name == "matched" else fact.unrelated for fact in facts]
        for size in (1, 8):
            batch = prompts_as_batch(model, texts[:size])
            edits = [model.route(text)["edit"] for text in texts[:size]]
            assert edits == (list(range(size)) if name == "matched" else [None] * size), f"{name}: routed to {edits}"
            for tokens, key in ((args.tokens, ""), (1, "_first_token")):
                cost, seconds = overhead(
                    base_call(base, batch, tokens),
                    generation(model, batch, tokens, False),
                    args.runs * (1 if tokens > 1 else 4),
                )
                found[f"{name}{key}_batch{size}"] = round(cost, 4)
                found[f"base_ms_per_token{key}_batch{size}"] = round(statistics.median(seconds) * 1e3 / tokens, 3)
                print(
                    f"{name} batch {size}, {tokens} tokens: {cost:+.2%} over {found[f'base_ms_per_token{key}_batch{size}']} ms a token",
                    flush=True,
                )
        found[f"{name}_overhead"] = max(found[f"{name}_batch1"], found[f"{name}_batch8"])
        found[f"{name}_first_token_overhead"] = max(
            found[f"{name}_first_token_batch1"], found[f"{name}_first_token_batch8"]
        )
    batch = prompts_as_batch(model, [fact.unrelated for fact in facts])
    assert torch.equal(base_call(base, batch, 16)(), generation(model, batch, 16, False)()), "unmatched prompts changed"
    found["base_ms_per_token"] = found["base_ms_per_token_batch1"]
    if args.json:
        harness.write(args.json, found)


if __name__ == "__main__":
    main()
