"""Codes of words: signs of whitened early activations, and how much a word matters (its measured rarity).

The residual stream behind an early decoder layer (about a fifth of the depth) tells words apart and knows some of their
meaning and context. Whitened by a background, two words' cosine is near 0 unless they mean something alike, and the signs
alone keep it: with B bits and Hamming distance H the cosine is about 1 - 2 H / B.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

RIDGE = 0.1  # of the mean eigenvalue
MAX_BITS = 576


def early_layer(num_layers: int) -> int:
    """The decoder layer whose output is coded: about a sixth of the depth (layer 4 of 30, 2 of 18, 4 of 32)."""
    return max(0, round(num_layers / 6.5) - 1)


class TokenCoder:
    """Codes of residual-stream rows.

    Args:
        mean: (d,) float32.
        transform: (d, B) float32, whitening and, for wide models, a random rotation down to B bits; B is a multiple of 8.
    """

    def __init__(self, mean: torch.Tensor, transform: torch.Tensor):
        self.mean, self.transform = mean.float().cpu(), transform.float().cpu().contiguous()

    @property
    def bits(self) -> int:
        return self.transform.shape[1]

    @classmethod
    def fit(cls, hidden: torch.Tensor, max_bits: int = MAX_BITS, seed: int = 0) -> TokenCoder:
        """From (N, d) rows of background texts (no special tokens, no position 0), N >= 1,000 or so.

        The covariance gets a ridge of a tenth of its mean eigenvalue. Models wider than `max_bits` are rotated at random
        (by `seed`) and keep `max_bits` directions; others keep all d (cut down to a multiple of 8).
        """
        rows = hidden.double()
        mean = rows.mean(0)
        centred = rows - mean
        covariance = centred.T @ centred / len(rows)
        values, vectors = torch.linalg.eigh(covariance)
        scale = (values.clamp(min=0) + RIDGE * values.clamp(min=0).mean()).rsqrt()
        whitening = vectors * scale @ vectors.T
        width = rows.shape[1]
        if width > max_bits:
            generator = torch.Generator().manual_seed(seed)
            rotation, _ = torch.linalg.qr(torch.randn(width, max_bits, generator=generator, dtype=torch.float64))
            whitening = whitening @ rotation
        return cls(mean, whitening[:, : whitening.shape[1] // 8 * 8])

    def codes(self, hidden: torch.Tensor) -> np.ndarray:
        """(T, B/8) uint8, packed little-endian, of (T, d) rows (any float type)."""
        rows = hidden.float().cpu()
        signs = (rows - self.mean) @ self.transform > 0
        return np.packbits(signs.numpy(), axis=1, bitorder="little")

    def state(self) -> dict[str, torch.Tensor]:
        return {"mean": self.mean, "transform": self.transform}


class WordRarity:
    """How rare words are, by the model's own distribution of next tokens: no list of a language, no rank of ids.

    Args:
        log_probabilities: (V,) float32, log of the mean next-token distribution over the background's positions.
        tokenizer: the model's.
    """

    low, high = 5.5, 15.0  # nats: below, a word counts little (the, of, is); above, fully

    def __init__(self, log_probabilities: torch.Tensor, tokenizer: Any):
        self.log_probabilities, self.tokenizer = log_probabilities.float().cpu(), tokenizer
        self._known: dict[str, float] = {}

    @staticmethod
    def measure(distributions: Iterable[torch.Tensor]) -> torch.Tensor:
        """(V,) log probabilities, from an iterable of (n, V) logits; a floor keeps unseen tokens finite."""
        parts, count = [], 0
        for logits in distributions:
            parts.append(logits.float().softmax(-1).sum(0).double().cpu())
            count += logits.shape[0]
        return (torch.stack(parts).sum(0) / count + 1e-9).log().float()

    def surprise(self, word: str) -> float:
        """Nats of a word in small letters, behind a space: of all its tokens together, so that rare words in many pieces count."""
        found = self._known.get(word)
        if found is None:
            tokens = self.tokenizer(" " + word, add_special_tokens=False)["input_ids"]
            found = -float(self.log_probabilities[tokens].sum()) if tokens else 0.0
            if len(self._known) > 1 << 18:
                self._known.clear()
            self._known[word] = found
        return found

    def weight(self, word: str) -> float:
        """0.02 ... 1: the word's importance."""
        share = (self.surprise(word) - self.low) / (self.high - self.low)
        return max(0.02, min(1.0, share)) ** 1.5 if math.isfinite(share) else 1.0
