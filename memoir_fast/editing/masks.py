"""Which columns of the memory an edit writes to, its mask, where no prompt has to make the same mask again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def spread_masks(prompts: Sequence[str], uses: np.ndarray, top_k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of b edits, in order, the columns that the fewest edits use; those equal are drawn at random.

    So all columns are used equally often, and two edits share k^2 / D of them on average, whatever they say. The masks of
    similar prompts, which TopHash makes, share most of them. (Choosing TopHash's own among the columns used equally often
    was tried: every D / k edits the same columns came up together, and similar edits met in them again.)

    Args:
        prompts: the edits' prompts. With the seed they fix what is drawn.
        uses: (D,) how many edits use each column.
        top_k: k.
        seed: `MemoirConfig.seed`.

    Returns:
        (b, k) int32 ascending, and the same packed, (b, ceil(D/8)) uint8.
    """
    uses, bits = uses.copy(), np.zeros((len(prompts), len(uses)), np.uint8)
    for prompt, row in zip(prompts, bits, strict=True):
        drawn = hashlib.blake2b(f"{seed} {prompt}".encode(errors="surrogatepass"), digest_size=16).digest()
        order = np.random.PCG64(int.from_bytes(drawn, "little")).random_raw(len(uses))
        row[np.lexsort((order, uses))[:top_k]] = 1
        uses += row
    indices = np.nonzero(bits)[1].reshape(len(bits), top_k).astype(np.int32)
    return indices, np.packbits(bits, axis=1, bitorder="little")
