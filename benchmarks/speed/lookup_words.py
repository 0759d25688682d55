"""The words' part of the look-up benchmark: rewordings of stored facts among very many wordings.

The queries are other wordings of stored facts, so what is found can be counted: by the words they share, by the summed codes, by both, and for
several budgets of postings.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from benchmarks.library import Candidates, KeyStore, cpu, ops, search, summed
from benchmarks.speed.many_wordings import ManyWordings

BUDGETS = (5_000, 20_000, 40_000, 100_000)
NUMBER = 64


class Stored:
    """Wordings as the words' rule stores them, and their summed codes once more for comparing all of them."""

    def __init__(self, many: ManyWordings, most: int):
        self.many, self.facts = many, many.facts(most)
        self.candidates, self.keys = Candidates(many.matcher.bits), KeyStore()
        self.codes = np.empty((most, (many.matcher.bits + 63) // 64 * 8), np.uint8)

    def fill(self, count: int) -> float:
        """Store facts up to `count`; returns the seconds that storing took."""
        seconds = 0.0
        for number in range(len(self.keys), count):
            code = self.many.code(*self.facts[number])
            self.codes[number] = summed(code, self.many.matcher.bits).view(np.uint8)
            began = time.perf_counter()
            self.candidates.add(code), self.keys.add(code)
            seconds += time.perf_counter() - began
        return seconds


def measured(many: ManyWordings, sizes: list[int], queries: int) -> list[dict]:
    """One entry a size (ascending). `_ms` are medians of one query's wall time, `_cpu_ms` of its processor time, which a shared machine
    disturbs less."""
    stored, found = Stored(many, sizes[-1]), []
    for size in sizes:
        seconds = stored.fill(size)
        found.append(
            {"edits": size, "queries": queries, "add_s": round(seconds, 2), **_looked_up(stored, size, queries)}
        )
        print(found[-1], flush=True)
    return found


def _looked_up(stored: Stored, size: int, queries: int) -> dict:
    many, candidates, matcher = stored.many, stored.candidates, stored.many.matcher
    rows = np.random.default_rng(size).integers(0, size, queries)
    asked = [many.code(many.other(wording), subject) for wording, subject in (stored.facts[row] for row in rows)]
    codes = stored.codes[:size]
    for query in asked:  # the index is made, and word lists are turned into arrays, by the first search
        candidates(query, NUMBER)
    clock = _Clock()
    wanted = dict.fromkeys(("words", "codes", "both", "first"), 0)
    for row, query in zip(rows.tolist(), asked, strict=True):
        code = summed(query, matcher.bits).view(np.uint8)
        distances = clock("direct", lambda c=code: np.bitwise_count(codes ^ c).sum(1, dtype=np.int64))
        near = clock("faiss", lambda q=query: candidates.near(q, NUMBER))
        assert distances[near].tolist() == np.sort(distances)[:NUMBER].tolist()  # the values of a direct comparison
        if cpu.available():
            at, distance = clock("scan", lambda c=code: cpu.hamming_nearest(c[None], codes))
            assert distance[0] == distances.min() == distances[at[0]]
        lexical = clock("words", lambda q=query: candidates.lexical(q, NUMBER))
        both = clock("candidates", lambda q=query: candidates(q, NUMBER))
        likely = clock("verification", lambda q=query, c=both: matcher.probabilities(q, stored.keys, c))
        if ops.extension_compares():
            with ops.use_backend("reference"):
                slowly = clock("numpy", lambda q=query, c=both: matcher.probabilities(q, stored.keys, c))
            assert np.abs(likely - slowly).max() <= 1e-5 and likely.argmax() == slowly.argmax()
        for name, some in (("words", lexical), ("codes", near), ("both", both), ("first", both[likely.argmax()])):
            wanted[name] += row in np.atleast_1d(some)
    whole = [a + b for a, b in zip(clock.wall["candidates"], clock.wall["verification"], strict=True)]
    work = [a + b for a, b in zip(clock.work["candidates"], clock.work["verification"], strict=True)]
    return {
        "engine": search.engines()["tokens"],
        **clock.medians(),
        "lookup_ms": _ms(whole),
        "lookup_cpu_ms": _ms(work),
        **{f"recall_{name}": count / queries for name, count in wanted.items()},
        "budgets": [_with_budget(candidates, budget, rows, asked) for budget in BUDGETS],
    }


def _with_budget(candidates: Candidates, budget: int, rows: np.ndarray, asked: list) -> dict:
    """The look-up by words when it reads so many postings: time, and how often the right wording is among the best."""
    usual, candidates.budget = candidates.budget, budget
    clock, found = _Clock(), 0
    for query in asked:
        candidates.lexical(query, NUMBER)
    for row, query in zip(rows.tolist(), asked, strict=True):
        found += row in clock("words", lambda q=query: candidates.lexical(q, NUMBER))
    candidates.budget = usual
    return {"postings": budget, "recall": found / len(asked), **clock.medians()}


class _Clock:
    """Wall and processor time of named calls."""

    def __init__(self):
        self.wall: dict[str, list[float]] = {}
        self.work: dict[str, list[float]] = {}

    def __call__(self, name: str, call):
        wall, work = time.perf_counter(), time.thread_time()
        result = call()
        self.work.setdefault(name, []).append(time.thread_time() - work)
        self.wall.setdefault(name, []).append(time.perf_counter() - wall)
        return result

    def medians(self) -> dict:
        wall = {f"{name}_ms": _ms(taken) for name, taken in self.wall.items()}
        return wall | {f"{name}_cpu_ms": _ms(taken) for name, taken in self.work.items()}


def _ms(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1e3, 3)
