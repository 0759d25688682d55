"""Which edits say what is known without a look at all of them, whatever became of them."""

from __future__ import annotations

import random

import pytest

from memoir_fast.journal import lists
from memoir_fast.memory.index import SignatureIndex
from tests.support.stores import add, fact_of, new_journal, new_store


def test_a_change_of_one_edit_looks_at_those_concerned_only(monkeypatch):
    journal = new_journal("supersede")
    for number in range(300):
        add(journal, number, rephrasings=[f"r{number}"], key=f"k{number}")
    add(journal, 300, "other", prompt="P5 ")
    assert journal.same_text("p7") == [7] and journal.named("k8") == 8
    looked, folded = [], lists.folded
    monkeypatch.setattr(lists, "folded", lambda text: looked.append(text) or folded(text))
    journal.delete(9), journal.restore(9), journal.disable(10), journal.enable(10)
    assert journal.same_text("p7") == [7] and journal.same_text(" R7") == [7] and journal.named("k8") == 8
    assert len(looked) < 40
    journal.delete(300)
    assert journal.state.statuses[5] == "active"


def test_what_was_forgotten_is_not_found_nor_its_texts_under_the_next_edit_of_its_id():
    journal = new_journal()
    add(journal, 0, key="k0")
    mark = journal.mark()
    add(journal, 1, key="k1"), add(journal, 2, key="k2")
    assert journal.same_text("p2") == [2] and journal.named("k1") == 1
    journal.return_to(mark)
    assert journal.same_text("p2") == journal.same_text("p1") == [] and journal.named("k1") is None
    add(journal, 3, key="k3")
    assert journal.same_text("p1") == [] and journal.named("k1") is None and journal.same_text("p0") == [0]
    assert journal.same_text("p3") == [1] and journal.named("k3") == 1


@pytest.mark.parametrize("made", [new_journal, new_store])
def test_what_is_found_by_text_and_key_is_what_a_look_at_all_edits_finds(made, tmp_path, monkeypatch):
    """Through failures, which give an id to another text, and through undo."""
    journal = made(tmp_path / "s", "keep") if made is new_store else made("keep")
    rng, real = random.Random(0), SignatureIndex.add

    def same():
        for text in (f"p{n}" for n in range(6)):
            rows = journal.state.edits.items()
            wanted = [e for e, row in rows if text in map(lists.folded, (row["prompt"], *row["rephrasings"]))]
            assert journal.same_text(text) == sorted(wanted)
            assert journal.named(text) == next((e for e, row in rows if row["key"] == text), None)

    for number in range(60):
        kind = rng.choice(["add", "add", "fail", "delete", "restore"])
        edit = rng.randrange(journal.next_id) if journal.next_id else 0
        about = {
            "prompt": f" P{rng.randrange(6)}",
            "rephrasings": [f"p{rng.randrange(6)}"],
            "key": rng.choice(["", f"p{rng.randrange(6)}"]),
        }
        if kind == "fail":
            with monkeypatch.context() as patched:
                patched.setattr(SignatureIndex, "add", lambda *_: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    fact, update = fact_of(journal, number, **about)
                    if made is new_store:  # which reads its records again, with the index as it was
                        patched.setattr(SignatureIndex, "add", _once(real))
                    journal.add([fact], [update])
        elif kind == "add":
            add(journal, number, **about)
        elif kind == "delete" and journal.next_id and journal.state.statuses[edit] == "active":
            journal.delete(edit)
        elif kind == "restore" and journal.next_id and journal.state.statuses[edit] == "deleted":
            journal.restore(edit)
        if rng.random() < 0.7:
            same()
    same()
    journal.close()


def _once(real):
    """Fails at the first call."""
    calls = []

    def add(*arguments):
        calls.append(1)
        return 1 / 0 if len(calls) == 1 else real(*arguments)

    return add
