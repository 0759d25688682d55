"""Readers beside a writer: every answer is that of the memory before some change or after it, never one in between."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest
import torch

from memoir_fast import MemoirModel
from tests.support.models import bits, tiny_memoir, tiny_model, word_tokenizer

A = "w100 w101 w102 w103"
B = "w110 w111 w112 w113 w114"
UNRELATED = "w30 w31 w32 w33 w34 w35"
CHANGES = 300


def _tokens(model, *texts):
    rows = [model.encoder.prompt(text).tokens for text in texts]
    width = max(map(len, rows))
    tokens, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for line, row in enumerate(rows):
        tokens[line, width - len(row) :], mask[line, width - len(row) :] = torch.tensor(row), 1
    return {"input_ids": tokens, "attention_mask": mask}


@torch.no_grad()
def _logits(model, inputs) -> bytes:
    return bits(model(**inputs).logits[:, -1]).numpy().tobytes()


class Watch:
    """What readers may see and what they saw: whole answers by question."""

    def __init__(self, model):
        self.model, self.inputs = model, {"matched": _tokens(model, A), "batch": _tokens(model, B, UNRELATED, A)}
        self.allowed: dict[str, set] = {}
        self.seen: dict[str, list] = {}
        self.errors: list[BaseException] = []
        self.stop = threading.Event()

    def answer(self, question: str):
        if question == "generated":
            return self.model.ask([A, UNRELATED, B], max_new_tokens=4)[0::2].__str__()
        if question in ("a", "b"):
            with self.model.only([question]):
                return _logits(self.model, self.inputs["batch"])
        return _logits(self.model, self.inputs[question])

    def note(self) -> None:
        """The writer, between two changes: what may be seen from now on."""
        for question in ("matched", "batch", "generated", "a", "b"):
            self.allowed.setdefault(question, set()).add(self.answer(question))

    def see(self, question: str) -> None:
        self.seen.setdefault(question, []).append(self.answer(question))

    def reader(self, question: str) -> threading.Thread:
        return self._thread(lambda: self.see(question))

    def unmatched(self) -> threading.Thread:
        inputs = _tokens(self.model, UNRELATED)
        with self.model.disabled():
            base = _logits(self.model, inputs)
        return self._thread(lambda: self.seen.setdefault("unmatched", []).append(_logits(self.model, inputs) == base))

    def coroutines(self) -> threading.Thread:
        """Two coroutines of one thread, each within its own `only`, that give way to one another while they are in it."""

        async def ask(tag: str) -> None:
            inputs = self.inputs["batch"]
            with self.model.only([tag]):
                await asyncio.sleep(0)
                self.seen.setdefault(tag, []).append(_logits(self.model, inputs))
                await asyncio.sleep(0)
                self.seen[tag].append(_logits(self.model, inputs))

        async def both() -> None:
            await asyncio.gather(ask("a"), ask("b"))

        return self._thread(lambda: asyncio.run(both()))

    def _thread(self, act) -> threading.Thread:
        def run() -> None:
            try:
                while not self.stop.is_set():
                    act()
            except BaseException as error:
                self.errors.append(error)

        return threading.Thread(target=run, daemon=True)

    def check(self, least: int) -> None:
        assert not self.errors, self.errors
        for question, seen in self.seen.items():
            allowed = {True} if question == "unmatched" else self.allowed[question]
            assert len(seen) >= least, (question, len(seen))
            wrong = sum(answer not in allowed for answer in seen)
            assert not wrong, f"{question}: {wrong} of {len(seen)} answers are of no state of the memory"
        assert (
            len(self.allowed["matched"]) > 10 and len(set(self.seen["matched"])) > 3
        )  # the memory did change under them


def _changes(model: MemoirModel):
    """What one writer does, over and over."""
    first = model.edit(A, "w150", tags=["a"], steps=2).id
    yield
    second = model.edit(B, "w160 w161", tags=["b"], steps=2).id
    yield
    while True:
        model.delete(first)
        yield
        model.restore(first)
        yield
        newer = model.edit(A, f"w{151 + newer_target(model)}", tags=["a"], steps=2)
        assert newer.supersedes == [first]
        yield
        model.disable(second)
        yield
        model.tag(second, ["a", "b"])
        yield
        model.enable(second)
        yield
        model.tag(second, ["b"])
        yield
        model.rollback(first)
        yield
        model.restore(second)
        yield
        model.store.compact()
        yield


def newer_target(model: MemoirModel) -> int:
    return model.next_id % 9


@pytest.fixture
def hurried():
    """Threads take turns as often as Python can; one thread each in torch, so that sums do not depend on who is busy."""
    interval, threads = sys.getswitchinterval(), torch.get_num_threads()
    sys.setswitchinterval(1e-5)
    torch.set_num_threads(1)
    yield
    sys.setswitchinterval(interval)
    torch.set_num_threads(threads)


def _run(watch: Watch, change, count: int) -> None:
    """Make `count` changes beside four reading threads and one of two coroutines."""
    threads = [watch.reader(question) for question in ("matched", "batch", "generated")]
    threads += [watch.unmatched(), watch.coroutines()]
    watch.note()
    for thread in threads:
        thread.start()
    try:
        for _ in range(count):
            change()
            watch.note()
    finally:
        watch.stop.set()
        for thread in threads:
            thread.join()


BY_WORDS = {"router": "tokens", "threshold": None}


@pytest.mark.parametrize(("settings", "count"), [({}, CHANGES), (BY_WORDS, CHANGES // 2)], ids=["masks", "words"])
def test_readers_beside_the_writer_of_a_store(tmp_path, hurried, settings, count):
    model = tiny_memoir(write="preconditioned", **settings)
    model.create_store(tmp_path / "s")
    watch, changes = Watch(model), _changes(model)
    _run(watch, lambda: next(changes), count)
    watch.check(least=20)
    model.close()


@pytest.mark.parametrize("settings", [{}, BY_WORDS], ids=["masks", "words"])
def test_readers_of_a_store_that_is_refreshed(tmp_path, hurried, settings):
    writer = tiny_memoir(**settings)
    writer.create_store(tmp_path / "s")
    model = MemoirModel.open(tmp_path / "s", tiny_model("llama"), word_tokenizer(), read_only=True)
    watch, changes = Watch(model), _changes(writer)

    def change() -> None:
        next(changes)
        model.refresh()

    _run(watch, change, CHANGES // 3)
    watch.check(least=20)
    writer.close(), model.close()


def test_an_answer_that_has_begun_keeps_its_edit():
    """A generation whose edit is deleted after the first token goes on as it began."""
    model = tiny_memoir()
    model.edit(A, "w150 w151 w152 w153")
    inputs = _tokens(model, A)
    whole = model.generate(**inputs, max_new_tokens=4, pad_token_id=0)

    class Deleting:
        def put(self, value):
            if value.numel() == 1 and 0 in model.edits:  # the prompt comes first
                model.delete(0)

        def end(self):
            pass

    assert torch.equal(model.generate(**inputs, max_new_tokens=4, pad_token_id=0, streamer=Deleting()), whole)
    assert not torch.equal(model.generate(**inputs, max_new_tokens=4, pad_token_id=0), whole)
