"""The masks' part of the look-up benchmark: one query over very many masks, by our scan, by FAISS and by a direct comparison.

At LLaMA-3's sizes (D = 14336, k = 4096), on masks of exactly k ones whose columns are as unevenly popular as SmolLM2's
are on ZsRE (between 0.016 and 0.968, median 0.26).
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch

from benchmarks import timing
from benchmarks.library import SignatureIndex, search

D, K = 14336, 4096


def popularity(rng) -> np.ndarray:
    """(D,) float: how often a column is in a mask; mean k/D, with a long tail as measured."""
    weights = rng.beta(1.6, 4.0, D)
    weights = np.clip(weights, 0.016, 0.968)
    return np.clip(weights * (K / D) / weights.mean(), 0.016, 0.968)


def draw(rng, chances: np.ndarray, count: int) -> np.ndarray:
    """(count, D/8) uint8: masks of exactly k ones, columns drawn by their popularity."""
    rows = []
    for start in range(0, count, 512):
        some = min(512, count - start)
        # The k largest of log-chance plus Gumbel noise: k columns without repeats, popular ones more often.
        noise = -np.log(-np.log(rng.random((some, D), dtype=np.float32) + 1e-12) + 1e-12)
        keys = noise + np.log(chances / (1 - chances)).astype(np.float32)
        mask = np.zeros((some, D), np.uint8)
        np.put_along_axis(mask, np.argpartition(keys, D - K, axis=1)[:, D - K :], 1, axis=1)
        rows.append(np.packbits(mask, axis=1, bitorder="little"))
    return np.concatenate(rows)


def mixed(rng, chances, count: int, seeds: int = 4096) -> np.ndarray:
    """Many masks: each takes every byte from one of two of `seeds` drawn masks, then is brought back to k ones.

    Drawing a million masks one by one takes hours; mixing drawn ones keeps the columns' popularity and makes all masks different.
    """
    base = draw(rng, chances, seeds)
    codes = np.empty((count, D // 8), np.uint8)
    for start in range(0, count, 8192):
        some = min(8192, count - start)
        first, second = rng.integers(0, seeds, (2, some))
        choose = rng.integers(0, 2, (some, D // 8), dtype=np.uint8).astype(bool)
        codes_of = np.where(choose, base[first], base[second])
        codes[start : start + some] = _to_k_ones(rng, codes_of)
    return codes


def _to_k_ones(rng, codes: np.ndarray) -> np.ndarray:
    """Set or clear random bits of each row, by whole random columns, until it has exactly k ones."""
    bits = np.unpackbits(codes, axis=1, bitorder="little")
    excess = bits.sum(1, dtype=np.int64) - K
    for row in np.flatnonzero(excess):
        value = 1 if excess[row] > 0 else 0
        places = np.flatnonzero(bits[row] == value)
        bits[row, rng.choice(places, abs(int(excess[row])), replace=False)] = 1 - value
    return np.packbits(bits, axis=1, bitorder="little")


def near(rng, code: np.ndarray, overlap: float, chances) -> np.ndarray:
    """A mask of k ones that shares the fraction `overlap` of them with `code`, the others by popularity."""
    bits = np.unpackbits(code, bitorder="little").astype(bool)
    inside, outside = np.flatnonzero(bits), np.flatnonzero(~bits)
    shared = round(overlap * K)
    weights = chances[outside] / chances[outside].sum()
    query = np.zeros(D, np.uint8)
    query[rng.choice(inside, shared, replace=False)] = 1
    query[rng.choice(outside, K - shared, replace=False, p=weights)] = 1
    return np.packbits(query, bitorder="little")


def published(rng, chances, runs: int) -> dict:
    """Our look-up among 5,000 beside the published product of floats and a plain read of the same bytes."""
    codes = draw(rng, chances, 5000)
    index = SignatureIndex(D, K)
    index.add(range(5000), codes)
    query = near(rng, codes[1234], 0.6, chances)
    masks = torch.from_numpy(np.unpackbits(codes, axis=1, bitorder="little")).bool()
    asked = torch.from_numpy(np.unpackbits(query, bitorder="little")).bool()

    def product():
        overlaps = (masks.float() @ asked.float()) / K
        best = int(overlaps.argmax())
        return best, float(overlaps[best])

    words = torch.from_numpy(codes.reshape(-1).view(np.float32).copy())
    words.nan_to_num_(0.0, 0.0, 0.0)
    calls = {"ours": lambda: index.nearest(query[None]), "published": product, "stream": lambda: torch.sum(words)}
    ids, overlap = index.nearest(query[None])
    assert (int(ids[0]), round(float(overlap[0]), 6)) == (1234, round(product()[1], 6)) and product()[0] == 1234
    seconds = timing.interleaved(calls, runs)
    found = {f"{name}_ms": round(statistics.median(taken) * 1e3, 4) for name, taken in seconds.items()}
    return found | {
        "ratio": timing.ratio(seconds["published"], seconds["ours"]),
        "stream_ratio": timing.ratio(seconds["ours"], seconds["stream"]),
    }


def side_by_side(rng, chances, count: int, queries: int) -> dict:
    """One query over `count` masks: ours, FAISS with one thread and with all of its threads, in turns; every answer is checked against a
    direct comparison of all codes."""
    codes = draw(rng, chances, count) if count <= 5000 else mixed(rng, chances, count)
    index, began = SignatureIndex(D, K), time.perf_counter()
    for start in range(0, count, 10_000):
        index.add(range(start, min(start + 10_000, count)), codes[start : start + 10_000])
    added = time.perf_counter() - began
    wanted, overlaps = rng.integers(0, count, queries), np.linspace(0.5, 1.0, queries)
    asked = np.stack([near(rng, codes[row], share, chances) for row, share in zip(wanted, overlaps, strict=True)])
    least = np.array([_direct(codes, query) for query in asked])  # Hamming distance of the nearest
    flat, faiss = search.flat_index(codes), search.faiss("the comparison")
    del codes
    began = time.perf_counter()
    index.nearest(asked[:1])
    first = time.perf_counter() - began
    ids, shared = index.nearest(asked, exhaustive=True)
    assert (np.round((1 - shared) * 2 * K).astype(int) == least).all()
    found: list[int] = []
    distances: list[int] = []

    def alone(query):
        with search.one_thread(faiss):
            return flat.search(query[None], 1)[0][0, 0]

    seconds: dict[str, list[float]] = {"ours": [], "faiss": [], "faiss_threads": []}
    for query in asked:
        calls = {"ours": lambda q=query: found.append(int(index.nearest(q[None])[0][0])),
                 "faiss": lambda q=query: distances.append(int(alone(q))),
                 "faiss_threads": lambda q=query: flat.search(q[None], 1)}  # fmt: skip
        for name, taken in timing.interleaved(calls, 1, warmup=0).items():
            seconds[name] += taken
    assert (np.array(distances) == least).all()
    stored = count * (index.width + (index.slice_width if count > index.exhaustive else 0))  # what is touched
    return {
        "edits": count,
        "queries": queries,
        **{f"{name}_ms": round(statistics.median(taken) * 1e3, 3) for name, taken in seconds.items()},
        "recall": float(np.mean(np.array(found) == ids)),
        "found_wanted": float(np.mean(ids == wanted)),
        "bytes_per_edit": round(stored / count, 1),
        "add_s": round(added, 2),
        "first_search_s": round(first, 3),
    }


def _direct(codes: np.ndarray, query: np.ndarray) -> int:
    """The least Hamming distance, some codes at a time."""
    parts = range(0, len(codes), 1 << 14)
    return min(int(np.bitwise_count(codes[at : at + (1 << 14)] ^ query).sum(1, dtype=np.int64).min()) for at in parts)
