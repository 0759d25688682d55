"""Random signatures."""

from __future__ import annotations

import numpy as np


def random_signatures(count: int, dimension: int = 40, k: int = 9, seed: int = 0) -> np.ndarray:
    """(count, ceil(dimension/8)) uint8, each with k ones."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, dimension), np.uint8)
    for row in masks:
        row[rng.choice(dimension, k, replace=False)] = 1
    return np.packbits(masks, axis=1, bitorder="little")
