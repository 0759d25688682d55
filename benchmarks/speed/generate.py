"""What the memory costs in generation: `python -m benchmarks.speed.generate`

Greedy generation of 64 tokens, batch 1 and 8, by the unedited model and by the edited one, on prompts that match nothing and on prompts
that each match another edit. Both models take each token in turns, in changing order: this machine's speed drifts by several per cent within
seconds, so whole generations taken one after the other compare nothing. Overheads are fractions over the unedited model's time, medians over
the pairs of tokens, the worse of both batch sizes. That `generate` itself gives the same tokens is checked.
"""

from __future__ import annotations

import statistics
import time

import torch
from transformers import DynamicCache

from benchmarks import harness
from benchmarks.library import PLAIN, device_of, load_facts
from benchmarks.models import load_model
from benchmarks.timing import settle
from memoir_fast import MemoirConfig, MemoirModel


def prompts_as_batch(model, texts: list[str]) -> dict:
    """Left-padded tokens with their attention mask."""
    rows = [model.encoder.prompt(text).tokens for text in texts]
    width = max(map(len, rows))
    tokens, mask = torch.zeros(len(rows), width, dtype=torch.int64), torch.zeros(len(rows), width, dtype=torch.int64)
    for row, ids in enumerate(rows):
        tokens[row, width - len(ids) :] = torch.tensor(ids)
        mask[row, width - len(ids) :] = 1
    device = device_of(model.inner)
    return {"inputs": tokens.to(device), "attention_mask": mask.to(device)}


def generated(model, batch: dict, new_tokens: int) -> torch.Tensor:
    """The new tokens of transformers' own `generate`."""
    out = model.generate(**batch, min_new_tokens=new_tokens, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0)
    return out[:, batch["inputs"].shape[1] :]


class Decoder:
    """Greedy decoding, one token a call."""

    def __init__(self, model, batch: dict, end: int):
        self.model, self.mask, self.cache, self.end = model, batch["attention_mask"], DynamicCache(), end
        self.next, self.places = batch["inputs"], (self.mask.cumsum(1) - 1).clamp(min=0)
        self.tokens = []

    def step(self) -> float:
        """Take one token; returns the seconds."""
        began = time.perf_counter()
        logits = self.model(
            input_ids=self.next,
            attention_mask=self.mask,
            position_ids=self.places,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        logits[:, -1, self.end] = -torch.inf  # as `min_new_tokens` does
        self.next = logits[:, -1].argmax(-1, keepdim=True)
        settle(self.next.device)
        took = time.perf_counter() - began
        self.tokens.append(self.next)
        self.mask = torch.cat([self.mask, torch.ones_like(self.next)], 1)
        self.places = self.places[:, -1:] + 1
        return took


def _cost(pairs: list[tuple[float, float]]) -> float:
    """Median of how much longer the second of a pair took."""
    return statistics.median(b / a - 1 for a, b in pairs)


@torch.no_grad()
def lockstep(base, edited, batch: dict, new_tokens: int, rounds: int):
    """(first-token overhead, later tokens' overhead, base seconds of a later token), medians; and the edited model's tokens."""
    first, later = [], []
    for round_ in range(rounds):
        pair = [Decoder(model, batch, base.config.eos_token_id) for model in (base, edited)]
        for step in range(new_tokens if round_ % 4 == 0 else 1):  # more first tokens than whole generations
            order = (0, 1) if (step + round_) % 2 else (1, 0)
            taken = {who: pair[who].step() for who in order}
            (later if step else first).append((taken[0], taken[1]))
        if round_ == 0:
            tokens = torch.cat(pair[1].tokens, 1)
    return _cost(first[1:]), _cost(later[1:]), statistics.median(a for a, _ in later), tokens


def compared(base, model, facts, matched: bool, args) -> dict:
    """Overheads on prompts that match an edit each, or that match nothing, at batch 1 and 8 and the worse of both."""
    name = "matched" if matched else "unmatched"
    texts = [fact.prompt if matched else fact.unrelated for fact in facts]
    found: dict = {}
    for size in (1, 8):
        batch = prompts_as_batch(model, texts[:size])
        edits = [model.route(text)["edit"] for text in texts[:size]]
        assert edits == (list(range(size)) if matched else [None] * size), f"{name}: routed to {edits}"
        first, cost, seconds, tokens = lockstep(base, model, batch, args.tokens, args.runs)
        assert torch.equal(tokens, generated(model, batch, args.tokens)), "decoding step by step differs from generate"
        if not matched and size == 8:
            assert torch.equal(tokens, generated(base, batch, args.tokens)), "unmatched prompts changed"
        found[f"{name}_batch{size}"], found[f"{name}_first_token_batch{size}"] = round(cost, 4), round(first, 4)
        if not matched:
            found[f"base_ms_per_token_batch{size}"] = round(seconds * 1e3, 3)
        print(f"{name} batch {size}: {cost:+.2%} a token, {first:+.2%} the first token, {seconds * 1e3:.1f} ms a token",
              flush=True)  # fmt: skip
    for part in ("", "_first_token"):
        found[f"{name}{part}_overhead"] = max(found[f"{name}{part}_batch1"], found[f"{name}{part}_batch8"])
    return found


def measure(args) -> dict:
    """Eight edits, then the overheads of both kinds of prompts, where the model is loaded."""
    facts = load_facts(harness.SHIPPED, 8)
    # Their quality does not matter here.
    model = MemoirModel(*load_model(args.model), MemoirConfig(**PLAIN, threshold=0.6, steps=min(args.steps, 8)))
    base = load_model(args.model)[0]
    for fact in facts:
        model.edit(fact.prompt, fact.target)
    found = compared(base, model, facts, False, args) | compared(base, model, facts, True, args)
    found["base_ms_per_token"] = found["base_ms_per_token_batch1"]
    return found


def main() -> None:
    parser = harness.arguments(__doc__, model=True)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument(
        "--runs", type=int, default=24, help="first tokens of each kind; every fourth goes on to a whole generation"
    )
    parser.add_argument(
        "--steps", type=int, default=8, help="SGD steps of the eight edits (their quality does not matter here)"
    )
    args = parser.parse_args()
    recorder = harness.Recorder("generate", args)
    recorder.write({"model": args.model, "new_tokens": args.tokens, "runs": args.runs}, measure(args))


if __name__ == "__main__":
    main()
