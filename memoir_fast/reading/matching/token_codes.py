"""Word codes, which are signs of whitened early activations, and words' importance, from their measured rarity.

The residual stream after an early decoder layer (about a sixth of the depth) distinguishes words and knows some of
their meaning and context. After whitening with a background, two words' cosine is near 0 unless their meanings are
related. The signs alone keep this similarity: for B bits and a Hamming distance H it is about 1 - 2 H / B.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

RIDGE = 0.1  # relative to the mean eigenvalue
MAX_BITS = 576
_ROWS = 64  # of logits that are turned into probabilities at a time


def early_layer(num_layers: int) -> int:
    """The number of the decoder layer whose output is coded, at about a sixth of the depth (4 of 30, 2 of 18, 4 of
    32)."""
    return max(0, round(num_layers / 6.5) - 1)


class TokenCoder:
    """Codes rows of the residual stream.

    Args:
        mean: (d,) float32.
        transform: (d, B) float32, a whitening and, for wide models, a random rotation to B dimensions; B is a multiple
            of 8.
    """

    def __init__(self, mean: torch.Tensor, transform: torch.Tensor):
        self.mean, self.transform = mean.float().cpu(), transform.float().cpu().contiguous()

    @property
    def bits(self) -> int:
        """B, the number of bits of a code."""
        return self.transform.shape[1]

    @classmethod
    def fit(cls, hidden: torch.Tensor, max_bits: int = MAX_BITS, seed: int = 0) -> TokenCoder:
        """Fit to the activations of background texts.

        The covariance gets a ridge of a tenth of its mean eigenvalue. Models wider than `max_bits` are rotated at
        random and keep `max_bits` directions; others keep all d, rounded down to a multiple of 8.

        Args:
            hidden: (N, d) rows, without special tokens and position 0; N should be at least about 1,000.
            max_bits: the most bits of a code.
            seed: of the rotation.
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
        """Rows (T, d) of any float type to codes (T, B/8) uint8, packed little-endian."""
        rows = hidden.float().cpu()
        signs = (rows - self.mean) @ self.transform > 0
        return np.packbits(signs.numpy(), axis=1, bitorder="little")

    def state(self) -> dict[str, torch.Tensor]:
        """The constructor's arguments by name."""
        return {"mean": self.mean, "transform": self.transform}


class WordRarity:
    """How rare words are by the model's own next-token distribution, so that no word list of any language is needed.

    Args:
        log_probabilities: (V,) float32, the log of the mean next-token distribution over the background texts'
            positions.
        tokenizer: the model's.
    """

    low, high = 5.5, 15.0  # nats; below the first a word counts little (the, of, is), above the second fully

    def __init__(self, log_probabilities: torch.Tensor, tokenizer: Any):
        self.log_probabilities, self.tokenizer = log_probabilities.float().cpu(), tokenizer
        self._known: dict[str, float] = {}

    @staticmethod
    def measure(distributions: Iterable[torch.Tensor]) -> torch.Tensor:
        """Logits (n, V) each to mean log-probabilities (V,) float32; a floor keeps those of unseen tokens finite."""
        total, count = torch.zeros(1, dtype=torch.float64), 0
        for logits in distributions:
            for some in logits.split(_ROWS):
                total = total + some.float().softmax(-1).sum(0).double().cpu()
            count += logits.shape[0]
        return (total / count + 1e-9).log().float()

    def surprise(self, word: str) -> float:
        """A lower-case word's surprise in nats, summed over its tokens (after a space), so rare words of many tokens
        count fully."""
        found = self._known.get(word)
        if found is None:
            tokens = self.tokenizer(" " + word, add_special_tokens=False)["input_ids"]
            found = -float(self.log_probabilities[tokens].sum()) if tokens else 0.0
            if len(self._known) > 1 << 18:
                self._known.clear()
            self._known[word] = found
        return found

    def weight(self, word: str) -> float:
        """The word's importance: from the surprise's share of the way from `low` to `high`, at least 0.02 and at most
        1, ** 1.5."""
        share = (self.surprise(word) - self.low) / (self.high - self.low)
        return max(0.02, min(1.0, share)) ** 1.5 if math.isfinite(share) else 1.0
