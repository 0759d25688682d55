"""Which edits are in force: the journal against a plain model of the rules in `journal/succession.py`."""

from __future__ import annotations

import itertools
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memoir_fast.errors import ConflictError
from memoir_fast.store import Store, merge
from tests.support.stores import add, new_journal, new_store


class Plain:
    """The rules, as they are written down: flags, ranks and rivals, and nothing else."""

    def __init__(self, conflict: str):
        self.conflict, self.clock = conflict, 0
        self.texts: dict[int, tuple[str, str]] = {}
        self.pairs: set[tuple[int, int]] = set()  # (later, the one whose place it took)
        self.rank: dict[int, int] = {}
        self.deleted: set[int] = set()
        self.disabled: set[int] = set()

    def tick(self, edit: int) -> None:
        self.clock += 1
        self.rank[edit] = self.clock

    def rivals(self, edit: int) -> set[int]:
        found: set[int] = set()
        for one, other in ((0, 1), (1, 0)):
            reached, before = {edit}, set()
            while reached != before:
                before = set(reached)
                reached |= {pair[other] for pair in self.pairs if pair[one] in reached}
            found |= reached
        if self.conflict != "keep":
            prompt, target = self.texts[edit]
            found |= {i for i, (p, t) in self.texts.items() if p == prompt and t != target}
        return found - {edit}

    def status(self, edit: int) -> str:
        if edit in self.deleted:
            return "deleted"
        if edit in self.disabled:
            return "disabled"
        later = any(i not in self.deleted and self.rank[i] > self.rank[edit] for i in self.rivals(edit))
        return "superseded" if later else "active"

    def statuses(self) -> dict[int, str]:
        return {edit: self.status(edit) for edit in self.texts}


def make(journal, plain: Plain, prompt: str, target: str, more: list[int]) -> None:
    number = len(plain.texts)
    active = [i for i, status in plain.statuses().items() if status == "active"]
    asks = [i for i in active if plain.texts[i][0] == prompt and plain.texts[i][1] != target]
    if asks and plain.conflict == "reject":
        with pytest.raises(ConflictError):
            journal.conflicts(journal.same_text(prompt), target)
        return
    found = journal.conflicts(journal.same_text(prompt), target)
    assert found == ([] if plain.conflict == "keep" else asks)
    replaced = sorted({*found, *(active[i % len(active)] for i in more if active and plain.conflict != "reject")})
    # What stands in one line with a replaced edit goes with it: the matcher names the whole of what is in force.
    add(journal, number, target, prompt=prompt, supersedes=replaced)
    plain.texts[number] = (prompt, target)
    plain.pairs |= {(number, old) for old in replaced}
    plain.tick(number)


def bring_back(journal, plain: Plain, edit: int, verb: str) -> None:
    gone = [i for i in plain.rivals(edit) if plain.status(i) == "active"]
    if gone and plain.conflict == "reject":
        before = plain.statuses()
        with pytest.raises(ConflictError, match="contradicts edit"):
            getattr(journal, verb)(edit)
        assert journal.state.statuses == before
        return
    getattr(journal, verb)(edit)
    plain.deleted.discard(edit), plain.disabled.discard(edit)
    plain.pairs |= {(edit, old) for old in gone}
    plain.tick(edit)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("make"), st.sampled_from("pq"), st.sampled_from("abc"), st.lists(st.integers(0, 5), max_size=1)
        ),
        st.tuples(st.sampled_from(["delete", "restore", "disable", "enable"]), st.integers(0, 9)),
    ),
    max_size=18,
)


@pytest.mark.parametrize("conflict", ["supersede", "keep", "reject"])
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_journal_says_what_the_rules_say(conflict, steps):
    journal, plain = new_journal(conflict), Plain(conflict)
    wanted = {
        "delete": {"active", "disabled", "superseded"},
        "restore": {"deleted", "superseded"},
        "disable": {"active"},
        "enable": {"disabled"},
    }
    for verb, *rest in steps:
        if verb == "make":
            make(journal, plain, *rest)
        elif plain.texts:
            edit = rest[0] % len(plain.texts)
            if plain.status(edit) not in wanted[verb]:
                with pytest.raises(ValueError):
                    getattr(journal, verb)(edit)
            elif verb == "delete":
                journal.delete(edit)
                plain.deleted.add(edit)
                plain.disabled.discard(edit)
            elif verb == "disable":
                journal.disable(edit)
                plain.disabled.add(edit)
            else:
                bring_back(journal, plain, edit, verb)
        assert journal.state.statuses == plain.statuses(), (verb, rest)
    V = torch.zeros_like(journal.memory.V)
    for edit in journal.state.written():
        update = journal.state.update_of(edit)
        V[update.rows.long()] += update.delta()
    assert torch.allclose(journal.memory.V, V, atol=1e-4)
    assert sorted(journal.memory.index.ids) == journal.state.active()


def test_a_chain_is_undone_alike_in_every_order():
    for chosen in itertools.chain.from_iterable(itertools.combinations(range(4), n) for n in range(1, 5)):
        ends = set()
        for order in itertools.permutations(chosen):
            journal = new_journal("supersede")
            for number in range(4):
                add(journal, number, f"t{number}", prompt="q", supersedes=[number - 1] if number else [])
            for edit in order:
                journal.delete(edit)
            ends.add(tuple(journal.state.statuses.values()))
        assert len(ends) == 1, (chosen, ends)
        assert ends.pop().count("active") == (len(chosen) < 4)


def test_restoring_and_enabling_meet_what_was_made_meanwhile():
    journal = new_journal("supersede")
    add(journal, 0, "a", prompt="q"), journal.delete(0)
    add(journal, 1, "b", prompt="q")
    journal.restore(0)
    assert journal.state.statuses == {0: "active", 1: "superseded"}
    journal.delete(0)
    assert journal.state.statuses == {0: "deleted", 1: "active"}
    journal.disable(1)
    add(journal, 2, "c", prompt="q")
    journal.enable(1)
    assert journal.state.statuses == {0: "deleted", 1: "active", 2: "superseded"}
    rejecting = new_journal("reject")
    add(rejecting, 0, "a", prompt="q"), rejecting.delete(0), add(rejecting, 1, "b", prompt="Q ")
    with pytest.raises(ConflictError, match="edit 0 contradicts edit 1"):
        rejecting.restore(0)
    rejecting.disable(1), add(rejecting, 2, "c", prompt="q")
    with pytest.raises(ConflictError, match="edit 1 contradicts edit 2"):
        rejecting.enable(1)


def test_what_is_in_force_is_the_same_after_opening_again(tmp_path):
    with new_store(tmp_path / "s", "supersede") as store:
        for number in range(3):
            add(store, number, f"t{number}", prompt="q", supersedes=[number - 1] if number else [])
        store.restore(0), store.compact(), store.delete(2)
    with Store(tmp_path / "s", writer=True) as store:
        assert store.state.statuses == {0: "active", 1: "superseded", 2: "deleted"}
        store.delete(0)
        assert store.state.statuses == {0: "deleted", 1: "active", 2: "deleted"}


# ---- times -------------------------------------------------------------------------------------------------------


def at(hour: int) -> str:
    return f"2026-01-01T{hour:02}:00:00+00:00"


@pytest.mark.parametrize(("hours", "to", "kept"), [
    ([1, 2, 3, 4], 2, 2), ([1, 2, 3, 4], 0, 0), ([1, 2, 3, 4], 9, 4), ([1, 20, 3, 4], 3, 3), ([1, 20, 3, 4], 1, 1),
    ([10, 11, 2, 13, 14], 12, 3), ([10, 11, 2, 13, 14], 11, 3), ([10, 11, 12, 2, 14, 15], 11, 4),
])  # fmt: skip
def test_rollback_to_a_time_bears_a_wrong_clock(hours, to, kept):
    journal = new_journal()
    for number, hour in enumerate(hours):
        add(journal, number, created=at(hour))
    journal.rollback(at(to), empty=True)
    active = journal.state.active()
    assert active == list(range(len(active))) and abs(len(active) - kept) <= ([*hours] != sorted(hours)), active


def test_rollback_to_a_time_before_a_merge_takes_the_merge_back(tmp_path):
    with new_store(tmp_path / "theirs") as other:
        add(other, 7, created=at(1))
    with new_store(tmp_path / "ours") as store, Store(tmp_path / "theirs") as other:
        add(store, 0, created=at(2)), add(store, 1, created=at(3))
        merge(store, other)
        assert store.rollback(at(4)) == [2] and store.state.active() == [0, 1]
        assert store.rollback("2999-01-01") == [] and store.rollback(1) == []


# ---- merging -----------------------------------------------------------------------------------------------------


def test_merging_again_or_with_itself_adds_nothing(tmp_path):
    for name, first in (("a", 0), ("b", 10), ("c", 20)):
        with new_store(tmp_path / name, "supersede") as store:
            for number in range(first, first + 3):
                add(store, number)
    with Store(tmp_path / "a", writer=True) as a, Store(tmp_path / "b") as b:
        assert len(merge(a, b)["added"]) == 3
        assert merge(a, b) == {"added": [], "superseded": [], "rejected": [], "known": [3, 4, 5]}
        assert merge(a, a)["added"] == [] and len(a.edits) == 6
        a.delete(3)
        assert merge(a, b)["added"] == [] and a.state.statuses[3] == "deleted"  # it was taken back here
    with Store(tmp_path / "c", writer=True) as c, Store(tmp_path / "a") as a, Store(tmp_path / "b") as b:
        assert len(merge(c, b)["added"]) == 3 and len(merge(c, a)["added"]) == 3  # b's came by another way before
    with Store(tmp_path / "b", writer=True) as b, Store(tmp_path / "c") as c:
        assert len(merge(b, c)["added"]) == 6 and len(b.edits) == 9


def test_a_merge_cut_short_is_ended_by_another(tmp_path):
    with new_store(tmp_path / "theirs") as other:
        for number in range(4):
            add(other, number)
    new_store(tmp_path / "ours").close()
    for stop in range(4):
        shutil.copytree(tmp_path / "ours", tmp_path / "copy")
        with Store(tmp_path / "copy", writer=True) as store, Store(tmp_path / "theirs") as other:
            append, calls = store._log.append, itertools.count()

            def cut(*args, append=append, calls=calls, stop=stop, **kwargs):
                if next(calls) == stop:
                    raise KeyboardInterrupt
                return append(*args, **kwargs)

            store._log.append = cut
            with pytest.raises(KeyboardInterrupt):
                merge(store, other)
            assert len(store.edits) == stop
        with Store(tmp_path / "copy", writer=True) as store, Store(tmp_path / "theirs") as other:
            merge(store, other)
            assert [store.edits[i]["prompt"] for i in range(4)] == ["p0", "p1", "p2", "p3"] and len(store.edits) == 4
        shutil.rmtree(tmp_path / "copy")


def test_merging_replaces_what_has_the_same_key(tmp_path):
    for name in ("ours", "theirs"):
        with new_store(tmp_path / name) as store:
            add(store, 0 if name == "ours" else 1, key="capital")
    with Store(tmp_path / "ours", writer=True) as store, Store(tmp_path / "theirs") as other:
        assert merge(store, other) == {"added": [1], "superseded": [0], "rejected": []}
