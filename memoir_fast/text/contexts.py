"""The short contexts that an edit is also trained behind (MEMOIR, section 3; method of WISE)."""

from __future__ import annotations

from typing import Any

import torch

SEEDS = ("I", "You", "Because", "Yes", "Q: ")
TOKENS = (5, 10)


@torch.no_grad()
def make_contexts(model: Any, tokenizer: Any, device: torch.device) -> list[str]:
    """The ten short contexts that an edit is also trained behind: greedy continuations of five seeds, cut at 5 and 10 tokens.

    They depend on the model only, so they are made once per memory and saved with it. device: where the model takes
    tokens.
    """
    contexts: list[str] = []
    for seed in SEEDS:
        encoded = tokenizer(seed, return_tensors="pt").to(device)
        length = encoded["input_ids"].shape[1]
        pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        out = model.generate(**encoded, max_new_tokens=max(TOKENS), do_sample=False, num_beams=1, pad_token_id=pad_id)
        contexts += [tokenizer.decode(out[0, : length + n], skip_special_tokens=True) for n in TOKENS]
    return contexts
