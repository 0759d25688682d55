"""A matcher of a tiny random model, for tests of the words' rule that need no real one."""

from __future__ import annotations

import numpy as np
import torch

from memoir_fast.reading.matching.keys import Wordings
from memoir_fast.reading.matching.matcher import Matcher, Wording
from memoir_fast.reading.matching.prompt_codes import PromptCode
from memoir_fast.reading.matching.token_codes import TokenCoder
from tests.support.models import WORDS, word_tokenizer

WIDTH = 64


def tiny_matcher() -> Matcher:
    """Random activations of each token, whitened by themselves; every word is about equally rare."""
    tokenizer = word_tokenizer()
    rows = activations(list(range(len(tokenizer))))
    rates = torch.full((len(tokenizer),), -16.0)
    rates[tokenizer.convert_tokens_to_ids([*WORDS[-5:]])] = -4.0  # a b c d e: frequent words
    return Matcher(tokenizer, 0, TokenCoder.fit(rows), rates)


def activations(tokens: list[int]) -> torch.Tensor:
    """(T, WIDTH): each token's own random vector."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(300, WIDTH, generator=generator)[tokens]


def read(matcher: Matcher, text: str) -> tuple[Wording, PromptCode]:
    """What a text says."""
    tokens = matcher.reader.tokenizer(text)["input_ids"]
    return matcher.read(tokens, activations(tokens))


def texts(count: int, seed: int = 0) -> list[str]:
    """Random texts of three to six words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS[:120] + WORDS[-5:], rng.integers(3, 7))) for _ in range(count)]


def wordings(matcher: Matcher, *asked: str, kept_out: tuple[str, ...] = (), subject: str = "") -> Wordings:
    """The wordings of an edit with these texts."""
    return Wordings([read(matcher, t)[0] for t in asked], [read(matcher, t)[0] for t in kept_out], subject)
