"""What an edit takes in the memory of whoever looks edits up: the index of masks, the keys and the candidates."""

from __future__ import annotations

import sys
from array import array

import numpy as np
import torch

from memoir_fast.memory.index import SignatureIndex
from memoir_fast.memory.rows import Rows
from memoir_fast.reading.matching.key_store import KeyStore
from memoir_fast.reading.matching.keys import Keys, Wordings
from memoir_fast.reading.matching.matcher import Matcher
from memoir_fast.reading.matching.token_codes import MAX_BITS, TokenCoder
from tests.support.models import WORDS, word_tokenizer
from tests.support.signatures import random_signatures

EDITS, LONG = 2000, 12
LLAMA_3_8B = 14336, 4096  # the projection's input, and the active features of a mask


def held(thing, seen: set[int]) -> int:
    """Bytes of an object and what it holds, everything once; of growing arrays what is in use (the rest was never touched)."""
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, Rows):
        return thing.view.nbytes
    if isinstance(thing, array):
        return sys.getsizeof(thing)
    if isinstance(thing, dict):
        return sys.getsizeof(thing) + sum(held(part, seen) for item in thing.items() for part in item)
    if isinstance(thing, (list, tuple, set, frozenset)):
        return sys.getsizeof(thing) + sum(held(part, seen) for part in thing)
    if isinstance(thing, (int, str, bytes, bool, type(None))):
        return sys.getsizeof(thing)
    if isinstance(thing, (SignatureIndex, Keys)) or type(thing).__name__ in ("KeyStore", "Candidates"):
        return sum(held(part, seen) for name, part in vars(thing).items() if name not in ("matcher", "wordings_of"))
    return 0


def test_an_edit_takes_three_kilobytes_at_most_at_the_size_of_llama_3_8b():
    tokenizer, rng = word_tokenizer(), np.random.default_rng(0)
    rates = torch.full((len(tokenizer),), -16.0)
    matcher = Matcher(tokenizer, 0, TokenCoder(torch.zeros(MAX_BITS), torch.eye(MAX_BITS)), rates)
    table = torch.randn(len(tokenizer), MAX_BITS, generator=torch.Generator().manual_seed(0))
    stored = {}
    for edit in range(EDITS):
        tokens = tokenizer(" ".join(rng.choice(WORDS[:180], LONG)))["input_ids"]
        stored[edit] = Wordings([matcher.read(tokens, table[tokens])[0]])
    keys = Keys(matcher, stored.__getitem__)
    index = SignatureIndex(*LLAMA_3_8B)
    index.listen(keys)
    for start in range(0, EDITS, 200):
        signatures = random_signatures(200, *LLAMA_3_8B, seed=start)
        index.add(range(start, start + 200), signatures)
    keys.settle()
    assert keys.ranked(matcher.read(tokens, table[tokens])[1])[0].edit == EDITS - 1
    assert isinstance(keys.store, KeyStore) and keys.store.take(np.array([7])).present.sum() == LONG
    seen: set[int] = set()
    words = held(keys, seen) / EDITS
    masks = held(index, seen) / EDITS
    assert masks >= LLAMA_3_8B[0] / 8 and words >= LONG * MAX_BITS / 8  # the codes themselves were counted
    assert masks + words <= 3 * 1024, (masks, words)
