"""What each call on a store costs, by the number of edits that it holds; the part `--store` of the scaling benchmark.

The edits are generated questions beside random updates of the model's own sizes: editing for real would take days. The words' codes are random,
the same for the same word, and an update has few tokens, which makes the log shorter and each record's share of a call smaller than it is.
"""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.library import (
    CLASSES,
    Served,
    ServedWords,
    Snapshot,
    Store,
    Update,
    Wording,
    command_line,
    export_bundle,
    forget,
    import_bundle,
    relation_wordings,
    section_of,
    subjects,
    tables_of,
)
from memoir_fast import MemoirModel

TOKENS = 8  # of an update; a real edit in a chat has some hundred and seventy
BATCH = 250  # edits that are stored at a time while a store is filled
RUNS = 7


class Edits:
    """Generated edits for a model's memory, each of them another question.

    Args:
        model: with router="tokens".
        most: how many are needed.
    """

    def __init__(self, model: MemoirModel, most: int):
        self.matcher, self.sizes = model.router.words.keys.matcher, model.store.manifest.sizes
        self.rng, self.made = np.random.default_rng(0), 0
        draw, relations = random.Random(0), {name: texts[0] for name, texts in relation_wordings().items()}
        each = most // len(relations) * 3 // 2 + 10
        pools = {kind: subjects(kind, draw, each) for kind in CLASSES}
        texts = [
            text.replace("{s}", name) for relation, text in relations.items() for name in pools[relation.split(":")[0]]
        ]
        self.texts = list(dict.fromkeys(texts))
        draw.shuffle(self.texts)
        self._codes: dict[int, np.ndarray] = {}

    def one(self, scale: float, text: str | None = None, **about: Any) -> tuple[dict[str, Any], Update]:
        """The details and the update of one more edit. scale: the memory's; text: its prompt, None for a new one."""
        text = self.texts[self.made] if text is None else text
        self.made += 1
        D, d, k = self.sizes
        rows = np.sort(self.rng.choice(D, k, replace=False)).astype(np.int32)
        mask = np.zeros(D, np.uint8)
        mask[rows] = 1
        moves, G, features = (
            torch.from_numpy(self.rng.standard_normal((TOKENS, size), dtype=np.float32) * 0.01) for size in (k, d, k)
        )
        update = Update(
            torch.from_numpy(rows),
            np.packbits(mask, bitorder="little"),
            1.0,
            scale,
            moves=moves,
            G=G,
            features=features,
        )
        fact = {"prompt": text, "target": f"answer {self.made}", "author": "", "created": "2026-01-01T00:00:00+00:00", "loss": 0.01, "steps": 9,
                "seconds": 3.0, "nearest": None, "overlap": 0.0, "supersedes": [], "tags": [], "metadata": {}, "rephrasings": [],
                "not_prompts": [], "subject": "", "key": "", "codes": [self.wording(text).packed()], **about}  # fmt: skip
        return fact, update

    def wording(self, text: str) -> Wording:
        """A text's wording, its words' codes drawn at random."""
        tokens = self.matcher.reader.tokenizer(text, add_special_tokens=False)["input_ids"]
        words = self.matcher.reader.words(tokens)
        size = self.matcher.bits // 8
        for word in self.matcher.prompts.code(words, np.zeros((len(words), size), np.uint8)).word.tolist():
            if word not in self._codes:
                self._codes[word] = np.random.default_rng(word & (1 << 62) - 1).integers(0, 256, size, np.uint8)
        named = self.matcher.prompts.code(words, np.zeros((len(words), size), np.uint8)).word.tolist()
        return Wording(tokens, np.stack([self._codes[word] for word in named]))


def fill(store: Store, edits: Edits, count: int) -> None:
    """Store edits until there are `count`."""
    while (number := min(BATCH, count - store.next_id)) > 0:
        facts, updates = zip(*(edits.one(store.memory.scale) for _ in range(number)), strict=True)
        store.add(list(facts), list(updates))


class Stopwatch:
    """Wall and processor time of named calls, in the order in which they were first made. A shared machine disturbs the second less, but it does
    not hold the waiting for the disk."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.work: dict[str, list[float]] = {}

    def __call__(self, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
        wall, work = time.perf_counter(), time.process_time()
        result = call(*arguments)
        self.took(name, time.perf_counter() - wall, time.process_time() - work)
        return result

    def took(self, name: str, wall: float, work: float) -> None:
        """A call took so many seconds."""
        self.wall.setdefault(name, []).append(wall)
        self.work.setdefault(name, []).append(work)

    def medians(self) -> dict[str, dict[str, float]]:
        """Milliseconds."""
        parts = {"ms": self.wall, "cpu_ms": self.work}
        return {
            part: {name: round(statistics.median(some) * 1e3, 3) for name, some in taken.items()}
            for part, taken in parts.items()
        }


def ready(model: MemoirModel, query: Any) -> None:
    """Look an edit up, after which nothing of a change is left to do."""
    with model.memory.lock:
        model.router.words.best(query)


def changes(model: MemoirModel, reader: MemoirModel, edits: Edits, watch: Stopwatch) -> None:
    """Every change of one edit, each of them with what it leaves to the next look-up."""
    store, query = model.store, edits.matcher.code(edits.wording("What is the capital of Atlantis?"))
    known = random.Random(store.next_id).sample(store.state.active(), 3)

    def changed(name: str, call: Callable[..., Any], *arguments: Any) -> None:
        watch(name, lambda: (call(*arguments), ready(model, query)))

    for edit in known:
        changed("disable", store.disable, edit), changed("enable", store.enable, edit)
        changed("delete", store.delete, edit), changed("restore", store.restore, edit)
    for _ in range(RUNS):
        fact, update = edits.one(store.memory.scale)
        changed("add", store.add, [fact], [update])
        watch("refresh", lambda: (reader.refresh(), ready(reader, query)))
    for edit in known:
        text = store.state.row(edit)["prompt"]
        fact, update = edits.one(store.memory.scale, text, supersedes=[edit])
        changed("supersede", store.add, [fact], [update])
    for _ in range(3):
        watch.took("edit, without its optimisation", *_bookkeeping(model, edits))
    watch("compact", store.compact)
    changed("delete", store.delete, known[0])
    watch("compact after a delete", store.compact)


def _bookkeeping(model: MemoirModel, edits: Edits) -> tuple[float, float]:
    """Seconds (wall, processor) of an edit but for its optimisation."""
    editor, inside, all_of_it = model.writer.editor, Stopwatch(), Stopwatch()
    optimise = editor.optimise

    def timed(*arguments: Any, **named: Any) -> Any:
        return inside("optimise", lambda: optimise(*arguments, **named))

    editor.optimise = timed  # type: ignore[method-assign]  # of this editor only, until it is deleted below
    try:
        all_of_it("edit", lambda: model.edit(edits.texts[edits.made], "forty-two"))
        return tuple(
            sum(a["edit"]) - sum(b["optimise"])
            for a, b in ((all_of_it.wall, inside.wall), (all_of_it.work, inside.work))
        )
    finally:
        edits.made += 1
        del editor.optimise


def served(model: MemoirModel, edits: Edits, watch: Stopwatch) -> float:
    """A vLLM server's refresh after an edit, as its front end and one worker do it, without the engine between them. Returns the megabytes that are
    handed over."""
    store, sizes = model.store, list[int]()
    section = section_of(store, store.folder)
    worker = Served(section, words=ServedWords(model.tokenizer))
    worker.load(tables_of(store))

    def refreshed() -> None:
        with Snapshot(section) as snapshot:
            snapshot.write(set(worker.held))
            sizes.append(snapshot.path.stat().st_size)
            worker.prepare(load_file(snapshot.path))
            snapshot.agreed([{"generation": worker.commit(snapshot.seq)}])

    for number in range(RUNS):
        fact, update = edits.one(store.memory.scale)
        store.add([fact], [update])
        watch("vLLM: refresh, front end and worker" if number else "vLLM: the first refresh, front end and worker", refreshed)  # fmt: skip
    forget()  # the store stays open between two refreshes
    wanted = store.memory.pages.held
    assert worker.table is not None and worker.table.ids == store.memory.index.ids
    assert all(torch.equal(page, wanted[number]) for number, page in enumerate(worker.table.pages))
    return round(statistics.median(sizes) / 2**20, 1)


def whole(folder: Path, aside: Path, watch: Stopwatch) -> None:
    """What is done with a whole store, that nobody has open."""
    for _ in range(3):
        watch("open, reader", lambda: Store(folder).close())
        watch("open, writer", lambda: Store(folder, writer=True).close())
        for words in (["info"], ["log", "--count", "20"], ["show", "3"]):
            with contextlib.redirect_stdout(io.StringIO()):
                watch(words[0], lambda words=words: command_line([*words, "--store", str(folder)]))
    with Store(folder) as store:
        watch("verify", store.verify)
        watch("export", lambda: export_bundle(store, aside / "all.mfb"))
    watch("import", lambda: import_bundle(aside / "all.mfb", aside / "imported").close())
    watch("open, writer, what was imported", lambda: Store(aside / "imported", writer=True).close())
    shutil.rmtree(aside)


def measured(base: Any, other: Any, tokenizer: Any, sizes: list[int], folder: Path) -> Iterator[dict[str, Any]]:
    """One entry a size (ascending): milliseconds of every call, wall and processor time.

    Args:
        base, other: the model, twice: one for the writer, one for a reader beside it.
        folder: an empty one.
    """
    model = MemoirModel(base, tokenizer)
    model.create_store(folder / "store")
    edits = Edits(model, sizes[-1] + 60 * len(sizes))
    for size in sizes:
        fill(model.store, edits, size)
        watch = Stopwatch()
        reader = watch(
            "open and attach, reader", lambda: MemoirModel.open(folder / "store", other, tokenizer, read_only=True)
        )
        query = edits.matcher.code(edits.wording("What is the capital of Atlantis?"))
        watch("its first look-up", ready, reader, query), ready(model, query)
        changes(model, reader, edits, watch)
        handed = served(model, edits, watch)
        reader.detach(), reader.close(), model.detach(), model.close()
        (folder / "aside").mkdir()
        whole(folder / "store", folder / "aside", watch)
        log = sum(path.stat().st_size for path in (folder / "store").glob("log-*.bin"))
        yield {"edits": size, "log_mb": round(log / 2**20, 1), "refresh_mb": handed, **watch.medians()}
        model = MemoirModel.open(folder / "store", base, tokenizer)
    model.detach(), model.close()
