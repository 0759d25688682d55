"""What `checkouts.py` runs in each checkout: it uses only names that both an older and the present checkout have. `one_checkout.py FACTS COUNT`

Prints one JSON object: CPU seconds of edits, of first and later tokens on a prompt that reads an edit and on one that reads none, and of a
look-up; and what was generated, so that the two can be compared.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from memoir_fast import MemoirConfig, MemoirModel, load_model

# Plain text as the older checkouts know it; settings that a checkout does not have are left out.
PLAIN = {"threshold": 0.5, "chat_template": False, "router": "mask", "end": "none", "joiner": " ", "contexts": 10, "wordings": 0,
         "acts": "all", "train_rephrasings": False, "retries": 0}  # fmt: skip
UNRELATED = "How many legs does a spider usually have, and why so many?"
TOKENS, ROUNDS, STORED, LOOKUPS = 33, 12, 5000, 2000


def edits(model: MemoirModel, facts: list[dict[str, Any]]) -> dict[str, Any]:
    """CPU seconds and steps of each edit."""
    seconds, steps = [], []
    for fact in facts:
        began = time.process_time()
        steps.append(model.edit(fact["prompt"], fact["target_new"]).steps)
        seconds.append(time.process_time() - began)
    return {"edit": statistics.median(seconds), "steps": steps}


@torch.no_grad()
def generated(model: MemoirModel, text: str) -> tuple[list[float], list[int]]:
    """CPU seconds of each token of a greedy answer, and the tokens."""
    ids = torch.tensor([model.encoder.prompt(text).tokens])
    cache, mask, following = DynamicCache(), torch.ones_like(ids), ids
    seconds, tokens = [], []
    for _ in range(TOKENS):
        began = time.process_time()
        logits = model.model(
            input_ids=following, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits
        following = logits[:, -1].argmax(-1, keepdim=True)
        seconds.append(time.process_time() - began)
        tokens.append(int(following))
        mask = torch.cat([mask, torch.ones_like(following)], 1)
    return seconds, tokens


def answers(model: MemoirModel, asked: str) -> dict[str, Any]:
    """Medians over some rounds, for a prompt that reads an edit and for one that reads none, in turns."""
    found: dict[str, Any] = {}
    rounds = [{name: generated(model, text) for name, text in (("matched", asked), ("unmatched", UNRELATED))} for _ in range(ROUNDS)]  # fmt: skip
    for name in rounds[0]:
        taken = [seconds[name][0] for seconds in rounds]
        found[f"{name} first token"] = statistics.median(seconds[0] for seconds in taken)
        found[f"{name} later token"] = statistics.median(
            itertools.chain.from_iterable(seconds[1:] for seconds in taken)
        )
        found[f"{name} tokens"] = rounds[0][name][1]
    return found


def lookups() -> dict[str, Any]:
    """CPU seconds of finding the nearest of `STORED` masks."""
    for name in ("memoir_fast.memory.index", "memoir_fast.index"):
        try:
            index_class = importlib.import_module(name).SignatureIndex
            break
        except ModuleNotFoundError:
            continue
    rng, dimension, ones = np.random.default_rng(0), 1536, 440
    masks = np.zeros((STORED, dimension), np.uint8)
    for row in masks:
        row[rng.choice(dimension, ones, replace=False)] = 1
    codes = np.packbits(masks, axis=1, bitorder="little")
    index = index_class(dimension, ones)
    index.add(np.arange(STORED), codes)
    index.nearest(codes[:1])
    began = time.process_time()
    rows = [int(index.nearest(codes[row : row + 1])[0][0]) for row in range(LOOKUPS)]
    return {"look-up": (time.process_time() - began) / LOOKUPS, "found": rows == list(range(LOOKUPS))}


def run(facts_file: str, count: str) -> dict[str, Any]:
    """All measures in this checkout."""
    torch.set_num_threads(1)
    torch.manual_seed(0)  # older checkouts draw the permutation with it
    with open(facts_file, encoding="utf-8") as lines:
        facts = [json.loads(line) for line in itertools.islice(lines, int(count))]
    known = {field.name for field in dataclasses.fields(MemoirConfig)}
    settings: dict[str, Any] = {name: value for name, value in PLAIN.items() if name in known}
    model = MemoirModel(*load_model("smollm2"), MemoirConfig(**settings))
    return edits(model, facts) | answers(model, facts[0]["prompt"]) | lookups()


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:])))
