"""Undo without a store: the same verbs, kept in a file that goes with the process."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from memoir_fast import EditError, MemoirModel, StoreError
from tests.support.models import tiny_memoir, tiny_model, word_tokenizer
from tests.support.stores import add, fact_of, new_journal

A = ("w100 w101 w102 w103", "w150 w151")
B = ("w110 w111 w112 w113 w114", "w160 w161")


def _contents(model):
    return model.memory.V.clone(), model.memory.index.ids, model.edits, model.journal.state.counts()


def _answer(model, fact) -> str:
    return model.ask(fact[0], max_new_tokens=2)


def _same(one, other) -> bool:
    return torch.equal(one[0], other[0]) and one[1:] == other[1:]


@pytest.mark.parametrize("rule", ["sgd", "preconditioned"])
def test_every_verb_works_without_a_store(rule):
    model = tiny_memoir(write=rule, weight_decay=0.0)
    model.edit(*A)
    once = model.memory.V.clone()
    model.edit(*B, tags=["b"])
    assert model.store is None and list(model.edits) == [0, 1]
    answer = _answer(model, B)
    model.delete(1)
    assert torch.allclose(model.memory.V, once, atol=1e-5) and model.route(B[0])["edit"] is None
    assert _answer(model, B) != answer
    model.restore(1)
    assert _answer(model, B) == answer
    model.disable(1)
    assert model.route(B[0])["edit"] is None
    model.enable(1), model.tag(1, ["c"])
    with model.only(["c"]):
        assert model.route(B[0])["edit"] == 1
    assert model.rollback(0) == [1] and list(model.edits) == [0]
    assert model.refresh() == 0 and model.next_id == 2
    for act, says in (
        (lambda: model.delete(1), "deleted already"),
        (lambda: model.enable(0), "not disabled"),
        (lambda: model.delete(7), "no edit 7"),
    ):
        with pytest.raises(ValueError, match=says):
            act()


def test_what_a_folder_brought_cannot_be_taken_back_but_switched(tmp_path):
    model = tiny_memoir()
    model.edit(*A), model.edit(*B)
    model.save_pretrained(tmp_path)
    again = MemoirModel.load(tmp_path, tiny_model("llama"), word_tokenizer())
    before = _contents(again)
    with pytest.raises(ValueError, match="edit 0: its update is not kept"):
        again.delete(0)
    assert _same(_contents(again), before)
    again.disable(0)
    assert again.route(A[0])["edit"] is None and _answer(again, A) != _answer(model, A)
    again.enable(0)
    assert _answer(again, A) == _answer(model, A)
    third = again.edit("w120 w121", "w170").id
    assert third == 2
    again.delete(third)
    again.rollback(third)
    assert sorted(again.edits) == [0, 1, 2]


def test_a_change_that_fails_half_way_changes_nothing(monkeypatch):
    model = tiny_memoir(write="preconditioned")
    model.edit(*A), model.edit(*B)
    index = type(model.memory.index)
    for name, act in (("add", lambda: model.edit("w120 w121", "w170")), ("remove", lambda: model.delete(0))):
        before, C = _contents(model), model.memory.C.clone()

        def failing(*args):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(index, name, failing)
            with pytest.raises(KeyboardInterrupt):
                act()
        assert _same(_contents(model), before) and torch.equal(model.memory.C, C)
    answer = _answer(model, A)
    model.delete(0), model.restore(0)
    assert _answer(model, A) == answer


def test_an_update_that_is_not_finite_is_refused(monkeypatch):
    model = tiny_memoir()
    before = _contents(model)
    monkeypatch.setattr("memoir_fast.memory.update.Update.is_finite", lambda self: False)
    with pytest.raises(EditError, match="not finite"):
        model.edit(*A)
    assert _same(_contents(model), before)


def test_a_full_disk_is_named_and_a_closed_memory_only_answers(monkeypatch):
    model = tiny_memoir()
    model.edit(*A)
    before, answer = _contents(model), _answer(model, A)

    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("memoir_fast.base.files.write_all", full)
        with pytest.raises(StoreError, match="No space left"):
            model.edit(*B)
    assert _same(_contents(model), before)
    model.close()
    with pytest.raises(StoreError, match="was closed"):
        model.edit(*B)
    assert _answer(model, A) == answer


def test_records_take_no_memory_and_no_named_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    model = tiny_memoir()
    model.edit(*A)
    descriptors = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        model.edit(f"w12{number} w13{number}", "w170")
    assert len(os.listdir("/proc/self/fd")) == descriptors and list(tmp_path.iterdir()) == []
    assert all(entry.descriptor is not None for entry in model.journal.history())
    del model
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) < descriptors


def test_a_mark_is_returned_to_bit_by_bit():
    model = tiny_memoir(write="preconditioned")
    model.edit(*A)
    mark, before, C = model.journal.mark(), _contents(model), model.memory.C.clone()
    signatures = model.memory.index.signatures()
    model.edit(*B), model.delete(0)
    model.journal.return_to(mark)
    assert _same(_contents(model), before) and torch.equal(model.memory.C, C)
    assert np.array_equal(model.memory.index.signatures(), signatures)
    assert model.edit(*B).id == 1 and model.route(B[0])["edit"] == 1


FORKED = """
import os, torch
torch.set_num_threads(1)
from tests.support.models import tiny_memoir
model = tiny_memoir(write="preconditioned")
model.edit("w100 w101 w102", "w150")
child = os.fork()
edits = [(f"w11{n} w12{n} w13{n}", f"w16{n}") for n in range(4)]
for prompt, target in edits[2 * (child == 0) :][:2]:
    model.edit(prompt, target)
whole = model.memory.V.clone()
for edit in (0, 1, 2):
    model.delete(edit), model.restore(edit)  # reads every record back, under its checksum
assert torch.allclose(model.memory.V, whole, atol=1e-5)
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
model.delete(1), model.restore(1)
print("sound")
"""


def test_a_forked_process_goes_on_with_records_of_its_own():
    """Both processes edit after the fork; neither writes over the other's records."""
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, cwd=Path(__file__).parents[2],
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0 and "sound" in done.stdout, done.stderr[-1500:]


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_a_change_that_fails_while_a_page_begins_is_taken_back_to_the_bit(fails_at, monkeypatch):
    journal = new_journal(page_edits=3)
    for number in range(2):
        add(journal, number)
    memory, state = journal.memory, journal.state
    before, C, counts = memory.V.clone(), memory.C.clone(), state.counts()
    apply, calls = type(state).apply, []

    def failing(self, entry, effect=True):
        calls.append(entry)
        if len(calls) == fails_at:
            raise KeyboardInterrupt
        apply(self, entry, effect)

    monkeypatch.setattr(type(state), "apply", failing)
    facts, updates = zip(
        *(fact_of(journal, number, supersedes=[1] if number == 3 else []) for number in (2, 3, 4)), strict=True
    )
    with pytest.raises(KeyboardInterrupt):
        journal.add(list(facts), list(updates))
    assert torch.equal(memory.V, before) and torch.equal(memory.C, C) and memory.page == 0
    assert list(memory.pages.held) == [0] and state.counts() == counts and memory.index.ids == [0, 1]
    monkeypatch.undo()
    journal.add(list(facts), list(updates))
    assert memory.page == 1 and memory.index.ids == [0, 2, 3, 4]


def test_a_mark_is_returned_to_across_pages():
    journal = new_journal(page_edits=2)
    for number in range(3):
        add(journal, number)
    memory = journal.memory
    before, C, mark = memory.V.clone(), memory.C.clone(), journal.mark()
    for number in range(4):
        add(journal, 10 + number)
    journal.delete(0)
    assert memory.page == 3
    journal.return_to(mark)
    assert torch.equal(memory.V, before) and torch.equal(memory.C, C) and memory.page == 1
    assert journal.state.next_id == add(journal, 3) and memory.page == 1
