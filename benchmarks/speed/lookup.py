"""Looking a query's mask up among the stored ones: `python -m benchmarks.speed.lookup`

At LLaMA-3's sizes (D = 14336, k = 4096), on masks of exactly k ones whose columns are as unevenly popular as SmolLM2's
are on ZsRE (between 0.016 and 0.968, median 0.26). One query over 5,000 edits beside the published product of floats, FAISS and a plain read of
the same bytes; one query over a million edits with its recall against the exhaustive search.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch

from benchmarks import harness, timing
from benchmarks.library import SignatureIndex

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


def million(rng, chances, count: int, seeds: int = 4096) -> np.ndarray:
    """Many masks: each takes every byte from one of two of `seeds` drawn masks, then is brought back to k ones.

    Drawing a million masks one by one takes hours; mixing drawn ones keeps the columns' popularity and makes all masks different.
    """
    base = draw(rng, chances, seeds)
    codes = np.empty((count, D // 8), np.uint8)
    for start in range(0, count, 8192):
        some = min(8192, count - start)
        first, second = rng.integers(0, seeds, (2, some))
        choose = rng.integers(0, 2, (some, D // 8), dtype=np.uint8).astype(bool)
        mixed = np.where(choose, base[first], base[second])
        codes[start : start + some] = _to_k_ones(rng, mixed, chances)
    return codes


def _to_k_ones(rng, codes: np.ndarray, chances) -> np.ndarray:
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


def five_thousand(rng, chances, runs: int) -> dict:
    codes = draw(rng, chances, 5000)
    index = SignatureIndex(D, K)
    index.add(range(5000), codes)
    query = near(rng, codes[1234], 0.6, chances)
    masks = torch.from_numpy(np.unpackbits(codes, axis=1, bitorder="little")).bool()
    asked = torch.from_numpy(np.unpackbits(query, bitorder="little")).bool()

    def published():
        overlaps = (masks.float() @ asked.float()) / K
        best = int(overlaps.argmax())
        return best, float(overlaps[best])

    calls = {"ours": lambda: index.nearest(query[None]), "published": published}
    words = torch.from_numpy(codes.reshape(-1).view(np.float32).copy())
    words.nan_to_num_(0.0, 0.0, 0.0)
    calls["stream"] = lambda: torch.sum(words)
    try:
        import faiss
    except ImportError:
        pass
    else:
        flat = faiss.IndexBinaryFlat(D)
        flat.add(codes)
        calls["faiss"] = lambda: flat.search(query[None], 1)
    ids, overlap = index.nearest(query[None])
    assert (int(ids[0]), round(float(overlap[0]), 6)) == (1234, round(published()[1], 6)) and published()[0] == 1234
    seconds = timing.interleaved(calls, runs)
    found = {f"{name}_ms": round(statistics.median(taken) * 1e3, 4) for name, taken in seconds.items()}
    return found | {
        "ratio": timing.ratio(seconds["published"], seconds["ours"]),
        "stream_ratio": timing.ratio(seconds["ours"], seconds["stream"]),
    }


def one_million(rng, chances, count: int, queries: int) -> dict:
    codes = million(rng, chances, count)
    index = SignatureIndex(D, K)
    began = time.perf_counter()
    for start in range(0, count, 10_000):
        index.add(range(start, min(start + 10_000, count)), codes[start : start + 10_000])
    added = time.perf_counter() - began
    wanted = rng.integers(0, count, queries)
    asked = np.stack(
        [
            near(rng, codes[row], overlap, chances)
            for row, overlap in zip(wanted, np.linspace(0.5, 1.0, queries), strict=True)
        ]
    )
    del codes
    began = time.perf_counter()
    index.nearest(asked[:1], exhaustive=False)
    built = time.perf_counter() - began
    exact, _ = index.nearest(asked, exhaustive=True)
    seconds, found = [], []
    for query in asked:
        began = time.perf_counter()
        found.append(index.nearest(query[None], exhaustive=False)[0][0])
        seconds.append(time.perf_counter() - began)
    stored = count * (index.width + index.slice_width)  # what is touched; room to grow is only reserved
    return {
        "million_edits": count,
        "million_ms": round(statistics.median(seconds) * 1e3, 3),
        "million_recall": float(np.mean(np.array(found) == exact)),
        "million_found_wanted": float(np.mean(exact == wanted)),
        "million_queries": queries,
        "million_bytes_per_edit": round(stored / count, 1),
        "million_add_s": round(added, 2),
        "million_first_search_s": round(built, 2),
    }


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument(
        "--million", type=int, default=100_000, help="how many edits the large index holds (1000000 for the claim)"
    )
    parser.add_argument("--queries", type=int, default=200)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    chances = popularity(rng)
    spread = {"least": float(chances.min()), "median": float(np.median(chances)), "largest": float(chances.max())}
    recorder, found = harness.Recorder("lookup", args), {"popularity": spread}
    found |= five_thousand(rng, chances, args.runs)
    print({n: v for n, v in found.items() if n.endswith("ms") or "ratio" in n}, flush=True)
    found |= one_million(rng, chances, args.million, args.queries)
    print({n: v for n, v in found.items() if n.startswith("million")})
    recorder.write({"D": D, "k": K, "runs": args.runs}, found)


if __name__ == "__main__":
    main()
