"""Changes of stores and memory folders in the middle of which a process is killed, and what must be left of them; see `kills.py`."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from memoir_fast.store import Store, StoreError, export_bundle, import_bundle, merge
from memoir_fast.store import folder as saving
from tests.support.stores import add, new_store

Tell: TypeAlias = "Callable[[Any], Any]"
# What a store holds: statuses, prompts and tags, and the memory V S.
State: TypeAlias = "tuple[dict[int, str], dict[int, Any], torch.Tensor]"
Step: TypeAlias = "Callable[[Store], Any]"


def holds(store: Store) -> State:
    """What a store holds."""
    told = {edit: (row["prompt"], tuple(row["tags"])) for edit, row in store.edits.items()}
    return dict(store.state.statuses), told, store.memory.V * store.memory.scale


def same(found: State, wanted: State) -> bool:
    """Whether two stores hold the same; the memory up to rounding."""
    return found[:2] == wanted[:2] and torch.allclose(found[2], wanted[2], atol=1e-4)


@dataclass(frozen=True)
class Scenario:
    """Steps of a writer, each of which is acknowledged.

    Attributes:
        steps: what is done to the store, one after the other.
        prepare: makes the folder in which it happens; act: does it, and tells of each step once it counts as made.
        reference: what `check` compares with, from a run to the end; check(folder, reference, steps acknowledged, what was done).
        full_disk: the disk is full for three calls, again and again; wrong_clock: the clock jumps.
        beside: what the parent does meanwhile, given the child's process.
    """

    name: str
    prepare: Callable[[Path], None]
    act: Callable[[Path, Tell], None]
    reference: Callable[[Path, Path], Any]
    check: Callable[[Path, Any, int, Any], None]
    full_disk: bool = False
    wrong_clock: bool = False
    beside: Callable[[Path, int], None] | None = None


# ---- stores ------------------------------------------------------------------------------------------------------


def _four(folder: Path) -> None:
    with new_store(folder / "store", conflict="supersede") as store:
        for number in range(4):
            add(store, number)


def _paged(folder: Path) -> None:
    """Edits in three pages, and a snapshot."""
    with new_store(folder / "store", conflict="supersede", page_edits=2) as store:
        for number in range(5):
            add(store, number)
        store.compact()


def _batch(store: Store) -> None:
    """Three edits in one change, the last of which answers the first one's prompt otherwise."""
    from tests.support.stores import fact_of

    pairs = [fact_of(store, 20), fact_of(store, 21), fact_of(store, 22, "u", prompt="p20")]
    store.add([fact for fact, _ in pairs], [update for _, update in pairs])


EDITS: tuple[Step, ...] = (
    lambda s: add(s, 10),
    lambda s: s.tag(1, ["y"]),
    _batch,
    lambda s: add(s, 11, "u", prompt="p0", supersedes=[0]),
)
UNDO: tuple[Step, ...] = (lambda s: s.delete(0), lambda s: s.disable(1), lambda s: s.restore(0), lambda s: s.enable(1), lambda s: s.rollback(1),
                          lambda s: s.restore(3))  # fmt: skip
COMPACT: tuple[Step, ...] = (
    lambda s: s.compact(),
    lambda s: add(s, 10),
    lambda s: s.compact(),
    lambda s: s.delete(2),
    lambda s: s.compact(),
)
FORGET: tuple[Step, ...] = (lambda s: s.compact(forget_before=2), lambda s: add(s, 10), lambda s: s.compact(forget_before=4), lambda s: add(s, 11),
                            lambda s: s.compact())  # fmt: skip


def _acting(steps: tuple[Step, ...], retry: bool = False, fork: bool = False) -> Callable[[Path, Tell], None]:
    def act(folder: Path, tell: Tell) -> None:
        store = _opened(folder, retry)
        for number, step in enumerate(steps):
            while True:
                try:
                    step(store)
                    break
                except StoreError:
                    if not retry:
                        raise
                    if store._log is None or store._log.broken:
                        store.close()
                        store = _opened(folder, retry)
            tell(number)
            if fork:
                _forked(store)
        store.close()

    return act


def _opened(folder: Path, retry: bool) -> Store:
    while True:
        try:
            return Store(folder / "store", writer=True)
        except OSError:
            if not retry:
                raise


def _forked(store: Store) -> None:
    """A forked process that means to write too."""
    process = os.fork()
    if process == 0:
        try:
            add(store, 77)
        except StoreError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) in (0, -signal.SIGKILL)  # the kill may hit this one


def _states(steps: tuple[Step, ...]) -> Callable[[Path, Path], list[State]]:
    def reference(begun: Path, aside: Path) -> list[State]:
        shutil.copytree(begun, aside)
        with Store(aside / "store", writer=True) as store:
            found = [holds(store)]
            for step in steps:
                step(store)
                found.append(holds(store))
        return found

    return reference


def _nothing_lost(folder: Path, reference: list[State], done: int, what: Any) -> None:
    """The store, and a replica of it without a ledger, hold what they held after the last acknowledged step or the next one."""
    wanted = reference[done : done + 2]
    shutil.copytree(
        folder / "store",
        folder / "replica",
        ignore=lambda _, names: [n for n in names if n.startswith(("ledger", "lock", "writer"))],
    )
    for place, writer in (("store", False), ("replica", False), ("replica", True), ("store", True)):
        with Store(folder / place, writer=writer) as store:
            assert any(same(holds(store), one) for one in wanted), (what, done, place, writer, holds(store)[:2], wanted)
            assert store.verify()["problems"] == [], (what, store.verify())
    with Store(folder / "store", writer=True) as store:
        before = store.next_id
        assert add(store, 99) == before  # and it goes on


def _beside(folder: Path, process: int) -> None:
    """A reader follows a writer to its end: it raises nothing, and never goes back."""
    reader, seen = Store(folder / "store"), 0
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        reader.refresh()
        assert reader.state.seq >= seen - 3, "a reader lost more than the change that was being written"
        seen = max(seen, reader.state.seq)
    reader.refresh()
    with Store(folder / "store", writer=True) as store:
        reader.refresh()
        assert same(holds(reader), holds(store))


def _of(name: str, steps: tuple[Step, ...], retry: bool = False, fork: bool = False, begin: Callable[[Path], None] = _four,
        **more: Any) -> Scenario:  # fmt: skip
    return Scenario(name, begin, _acting(steps, retry, fork), _states(steps), _nothing_lost, full_disk=retry, **more)


# ---- merging, bundles, memory folders ----------------------------------------------------------------------------


def _two(folder: Path) -> None:
    _four(folder)
    shutil.copytree(folder / "store", folder / "other")
    with Store(folder / "other", writer=True) as store:
        for number in range(4, 8):
            add(store, number)


def _merge(folder: Path, tell: Tell) -> None:
    with Store(folder / "store", writer=True) as store, Store(folder / "other") as other:
        merge(store, other)
    tell("merged")


def _merged(begun: Path, aside: Path) -> State:
    shutil.copytree(begun, aside)
    _merge(aside, lambda _: None)
    with Store(aside / "store") as store:
        return holds(store)


def _merged_once(folder: Path, reference: State, done: int, what: Any) -> None:
    """Whole edits only, and merging again adds what is missing, and nothing twice."""
    with Store(folder / "store", writer=True) as store:
        statuses, told, _ = holds(store)
        assert told.items() <= reference[1].items() and store.verify()["problems"] == [], what
        assert not done or statuses == reference[0], what
    _merge(folder, lambda _: None)
    with Store(folder / "store") as store:
        assert same(holds(store), reference), what


def _bundle(folder: Path) -> None:
    _two(folder)
    with Store(folder / "store") as store:
        export_bundle(store, folder / "one.mfb")


def _in_and_out(folder: Path, tell: Tell) -> None:
    import_bundle(folder / "one.mfb", folder / "made").close()
    tell("imported")
    with Store(folder / "other") as store:
        export_bundle(store, folder / "one.mfb")
    tell("exported")


def _bundled(begun: Path, aside: Path) -> dict[str, State]:
    with Store(begun / "store") as one, Store(begun / "other") as other:
        return {"store": holds(one), "other": holds(other)}


def _whole_bundles(folder: Path, reference: dict[str, State], done: int, what: Any) -> None:
    """A store that was being imported is whole or none at all; a bundle that was being written over is the old one or the new one."""
    if (folder / "made" / "config.json").exists() or done:
        with Store(folder / "made", writer=True) as store:
            assert same(holds(store), reference["store"]), what
    with import_bundle(folder / "one.mfb", folder / "again") as store:
        assert any(same(holds(store), reference[name]) for name in (("other",) if done == 2 else ("store", "other"))), (
            what
        )


def _save(folder: Path, tell: Tell) -> None:
    for name in ("other", "store"):
        with Store(folder / name) as store:
            saving.write(folder / "memory", store.memory_state(), 0.5)
        tell(name)


def _saved(folder: Path) -> None:
    _two(folder)
    with Store(folder / "store") as store:
        saving.write(folder / "memory", store.memory_state(), 0.5)


def _whole_saves(folder: Path, reference: dict[str, State], done: int, what: Any) -> None:
    """A memory folder holds one save or the other, and the next save puts everything right."""
    found, memory = saving.read(folder / "memory"), saving.load_state(folder / "memory").memory
    wanted = [("store", "other")[n % 2] for n in (done, done + 1)]
    assert any(torch.equal(memory.V * memory.scale, reference[name][2]) and len(found.edits) == len(reference[name][1])
               for name in wanted), (what, done, len(found.edits))  # fmt: skip
    _save(folder, lambda _: None)
    assert sorted(path.name for path in (folder / "memory").iterdir()) == [
        "config.json",
        "edits.json",
        "memory.safetensors",
    ], what


SCENARIOS: dict[str, Scenario] = {
    one.name: one
    for one in (
        _of("edit", EDITS),
        _of("undo", UNDO),
        _of("compact", COMPACT),
        _of("forget", FORGET),
        _of("compact pages", COMPACT, begin=_paged),
        _of("forget of pages", FORGET, begin=_paged),
        _of("pages on a full disk", COMPACT[1:] + FORGET[:3], retry=True, begin=_paged),
        _of("full disk", EDITS + UNDO[:3] + COMPACT[:3], retry=True),
        _of("forked writer", EDITS, fork=True),
        _of("wrong clock", EDITS + UNDO, wrong_clock=True),
        _of("reader beside", EDITS + COMPACT[:3] + UNDO[:2], beside=_beside),
        _of("reader beside a full disk", EDITS + UNDO[:3], retry=True, beside=_beside),
        Scenario("merge", _two, _merge, _merged, _merged_once),
        Scenario("bundle", _bundle, _in_and_out, _bundled, _whole_bundles),
        Scenario("save", _saved, _save, _bundled, _whole_saves),
    )
}
