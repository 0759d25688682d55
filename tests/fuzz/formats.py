"""Every kind of file that the library reads: a sound one, and how it is damaged."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from memoir_fast.base import tuned
from memoir_fast.base.fingerprint import identity
from memoir_fast.journal.record import digest
from memoir_fast.ops.search import flat_index, write_flat
from memoir_fast.serving.section import section_of
from memoir_fast.serving.tables import tables_of
from memoir_fast.store import Store, page_files
from tests.support.forging import named_again, resealed
from tests.support.models import tiny_memoir, tiny_model, word_tokenizer
from tests.support.stores import add, new_store

from . import mutations, readers

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        share: its part of all inputs; make: writes sound folders into an empty one, each of them a beginning of inputs.
        damage: changes a copy of one of them; the last argument is a folder that nobody may touch.
        read: what the library does with it; named: the user names the file itself, so a link is followed.
    """

    share: float
    make: Callable[[Path], None]
    damage: Callable[[Path, random.Random, Path], None]
    read: Callable[[Path], None]
    named: bool = False


# ---- stores ------------------------------------------------------------------------------------------------------


def _stores(to: Path) -> None:
    for version in sorted(GOLDEN.glob("v*")):
        shutil.copytree(version / "store", to / version.name / "store")
    shutil.copytree(GOLDEN / "v4" / "store", to / "merging" / "store")
    shutil.copytree(GOLDEN / "v4" / "store", to / "merging" / "mine")
    with new_store(to / "two" / "store", page_edits=2) as store:
        for number in range(6):
            add(store, number)
            if number in (1, 3):
                store.compact()
        store.delete(2), store.restore(2), store.disable(4), store.tag(1, ["y"])
    shutil.copytree(to / "two", to / "forgotten")
    with Store(to / "forgotten" / "store", writer=True) as store:
        store.compact(forget_before=3)
        add(store, 7)
    (to / "two" / "store" / "unfinished-000000000003.bin").write_bytes(b"MFR1")


def _damage_store(folder: Path, rng: random.Random, outside: Path) -> None:
    place = folder / "store"
    paths = sorted(path for path in place.iterdir() if not path.name.endswith("-shm"))
    path = rng.choice(paths)
    other = rng.choice(paths)
    if rng.random() < 0.12:
        if rng.random() < 0.3:
            path = place / rng.choice(
                [
                    "writer.json",
                    "lock",
                    "ledger.sqlite-wal",
                    "x.part",
                    "log-000000000099.bin",
                    "snapshot-x.safetensors",
                    "page-x.safetensors",
                ]
            )
            path.write_bytes(path.read_bytes() if path.exists() else b"")
        mutations.kind_of_file(path, rng, outside)
    elif rng.random() < 0.04:
        shutil.copy(other, path) if path != other else None
    elif path.name.startswith("log-"):
        mutations.records(path, rng) if rng.random() < 0.8 else mutations.raw_file(path, rng, other.read_bytes)
    elif path.name == "ledger.sqlite":
        mutations.database(path, rng, outside)
    elif path.suffix == ".safetensors":
        mutations.tensors_file(path, rng)
        _put_right(place, path, rng)
    elif path.name == "config.json":
        mutations.json_file(path, rng)
    else:
        mutations.raw_file(path, rng, other.read_bytes)


def _put_right(place: Path, path: Path, rng: random.Random) -> None:
    """Let `config.json` name the digest of a file that was changed, in most cases."""
    if rng.random() < 0.1:
        return
    found = digest(path.read_bytes()).hex()
    if page_files.is_page(path.name):
        return _list_page(place, path, found, rng)

    def change(kept: dict[str, Any]) -> None:
        if path.name == kept.get("base_file", "base.safetensors"):
            kept["base"] = found
        for snapshot in kept["snapshots"]:
            if snapshot["file"] == path.name:
                snapshot["digest"] = found

    resealed(place, change)


def _list_page(place: Path, path: Path, found: str, rng: random.Random) -> None:
    """Name a page's file by the digest of what it holds now, and let the snapshots list that."""
    before = path.name.removeprefix("page-")[:32]
    path.rename(place / path.name.replace(before, found))
    for snapshot in place.glob("snapshot-*.safetensors"):
        raw = snapshot.read_bytes()
        snapshot.write_bytes(raw.replace(bytes.fromhex(before), bytes.fromhex(found)))
        _put_right(place, snapshot, rng)


# ---- bundles, memory folders -------------------------------------------------------------------------------------


def _bundles(to: Path) -> None:
    from memoir_fast.store import export_bundle

    for version in sorted(GOLDEN.glob("v*")):
        (to / version.name).mkdir()
        shutil.copy(version / "bundle.mfb", to / version.name)
    (to / "forgotten").mkdir()
    with new_store(to / "aside") as store:
        add(store, 0), add(store, 1), store.compact(forget_before=2), add(store, 2)
        export_bundle(store, to / "forgotten" / "bundle.mfb")
    shutil.rmtree(to / "aside")


def _damage_bundle(folder: Path, rng: random.Random, outside: Path) -> None:
    path = folder / "bundle.mfb"
    kind = rng.random()
    if kind < 0.05:
        mutations.kind_of_file(path, rng, outside)
    else:
        mutations.records(path, rng) if kind < 0.8 else mutations.raw_file(path, rng)


def _memories(to: Path) -> None:
    for version in sorted(GOLDEN.glob("v*")):
        shutil.copytree(version / "memory", to / version.name / "memory")
        shutil.copytree(GOLDEN / "v4" / "memory", to / version.name / "good")


def _damage_memory(folder: Path, rng: random.Random, outside: Path) -> None:
    place = folder / "memory"
    path = place / rng.choice(["config.json", "edits.json", "memory.safetensors"])
    if rng.random() < 0.12:  # a save that was cut short
        (place / "saving.part").mkdir()
        for name in rng.sample(["config.json", "edits.json", "memory.safetensors"], rng.randrange(4)):
            shutil.copy(place / name, place / "saving.part" / name)
        if (place / "saving.part" / path.name).exists():
            path = place / "saving.part" / path.name
    kind = rng.random()
    if kind < 0.1:
        return mutations.kind_of_file(path, rng, outside)
    if kind < 0.2:
        mutations.raw_file(path, rng)
    elif path.suffix == ".json":
        mutations.json_file(path, rng)
    else:
        mutations.tensors_file(path, rng)
    if path.name == "config.json" or rng.random() < 0.1:
        return None
    kept = json.loads((place / "config.json").read_bytes())
    if "digests" in kept:
        return named_again(place, path.name)
    kept["bytes"][path.name] = path.stat().st_size
    return (place / "config.json").write_text(json.dumps(kept)) and None


# ---- files that the user names -----------------------------------------------------------------------------------

_FACTS = [
    {"prompt": "w1 w2", "target": "w3", "rephrase": "w2 w1", "unrelated": "w9", "unrelated_answer": "w8", "rephrasings": ["w4"], "not_prompts": ["w7"],
     "subject": "w1", "key": "k"},
    {"src": "w1 w2", "alt": "w3", "rephrase": "w2 w1", "loc": "w9", "loc_ans": "w8", "subject": "w1"},
    {"prompt": "w1", "target_new": ["w3", "w4"], "ground_truth": ["w5"], "locality": {"a": [{"prompt": "w", "ground_truth": [["x"], ["y"]]}]},
     "portability": {"b": {"prompt": "w", "ground_truth": "x"}}, "subject": "w1"},
    {"requested_rewrite": {"prompt": "{} is", "subject": "w1", "target_new": {"str": "w2"}, "target_true": {"str": "w3"}},
     "paraphrase_prompts": ["w1 w1"], "neighborhood_prompts": ["w9"]},
]  # fmt: skip


def _facts(to: Path) -> None:
    for number, fact in enumerate(_FACTS):
        (to / f"lines{number}").mkdir(), (to / f"list{number}").mkdir()
        (to / f"lines{number}" / "facts.jsonl").write_text("\n".join(json.dumps(fact) for _ in range(3)))
        (to / f"list{number}" / "facts.jsonl").write_text(json.dumps([fact] * 3))
    (to / "texts").mkdir()
    (to / "texts" / "facts.jsonl").write_text(
        "\n".join(json.dumps({"prompt": f"w{i} w{i + 1}", "answer": "w"}) for i in range(152))
    )
    (to / "table").mkdir()
    (to / "table" / "facts.jsonl").write_text(
        'prompt,target,rephrasings,tags,metadata\nw1 w2,w3,w4 w5|w6,a,"{""n"": 1}"\n"w1, w9",w4,"[""w7""]",,\n'
    )


def _damage_facts(folder: Path, rng: random.Random, outside: Path) -> None:
    path, kind = folder / "facts.jsonl", rng.random()
    if kind < 0.06:
        mutations.kind_of_file(path, rng, outside)
    elif kind < 0.2 or path.read_bytes()[:1] not in b"[{":
        mutations.raw_file(path, rng)
    else:
        (mutations.json_file if path.read_bytes()[:1] == b"[" else mutations.lines_file)(path, rng)


def _choices(to: Path) -> None:
    (to / "a").mkdir()
    tokenizer, config = word_tokenizer(), tiny_memoir().config.updated(layer=None)
    model = identity(tiny_model("llama"), tokenizer, None)
    tuned.save(
        to / "a" / "tuned.json",
        model,
        tuned.measured_by(tokenizer, config),
        {"layer": 1, "contexts": 2, "edit_lr": 0.5},
        [],
    )


def _yaml(to: Path) -> None:
    hparams = Path(readers.__file__).parents[2] / "memoir_fast" / "compat" / "hparams"
    for path in sorted(hparams.glob("*.yaml")):
        (to / path.stem).mkdir()
        shutil.copy(path, to / path.stem / "params.yaml")


def _tensors(to: Path) -> None:
    (to / "a").mkdir()
    torch.manual_seed(0)  # the model's permutation is the readers' own, which begin with the same seed
    model = tiny_memoir()
    masks = torch.zeros(2, 96, dtype=torch.bool)
    masks[:, :24] = True
    torch.save(
        {"new_weight": torch.zeros(32, 96), "masks": masks, "permutation": model.memory.permutation.long()},
        to / "a" / "memory.pt",
    )
    torch.save(torch.ones(3, 96), to / "a" / "background.pt")


def _index(to: Path) -> None:
    (to / "a").mkdir()
    write_flat(to / "a" / "codes.index", flat_index(np.zeros((5, 12), np.uint8)))


def _gguf(to: Path) -> None:
    from gguf import GGUFWriter

    (to / "a").mkdir()
    writer = GGUFWriter(to / "a" / "model.gguf", "llama")
    (
        writer.add_block_count(1),
        writer.add_array("tokens", ["a", "b"]),
        writer.add_tensor("x", np.zeros((4, 4), np.float32)),
    )
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file()
    writer.close()


def _exports(to: Path) -> None:
    for name in ("v1", "v4"):  # masks route, words route
        (to / name / "export").mkdir(parents=True)
        shutil.copytree(GOLDEN / name / "store", to / "aside")
        with Store(to / "aside") as store:
            save_file(tables_of(store), to / name / "export" / "memoir.safetensors")
            about = section_of(store, "store")
        (to / name / "export" / "config.json").write_text(json.dumps({"architectures": ["MemoirX"], "memoir": about}))
        shutil.rmtree(to / "aside")


def _damage_named(folder: Path, rng: random.Random, outside: Path) -> None:
    """One file of its kind, or any."""
    path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    by_kind = {
        ".json": mutations.json_file,
        ".yaml": mutations.yaml_file,
        ".pt": mutations.zipped,
        ".safetensors": mutations.tensors_file,
    }
    kind = rng.random()
    if kind < 0.06:
        mutations.kind_of_file(path, rng, outside)
    elif kind < 0.2:
        mutations.raw_file(path, rng)
    else:
        by_kind.get(path.suffix, mutations.raw_file)(path, rng)


FORMATS: dict[str, Format] = {
    "store": Format(0.15, _stores, _damage_store, readers.store),
    "bundle": Format(0.1, _bundles, _damage_bundle, readers.bundle, named=True),
    "memory": Format(0.2, _memories, _damage_memory, readers.memory),
    "facts": Format(0.2, _facts, _damage_facts, readers.facts, named=True),
    "yaml": Format(0.08, _yaml, _damage_named, readers.yaml, named=True),
    "tensors": Format(0.08, _tensors, _damage_named, readers.tensors, named=True),
    "export": Format(0.08, _exports, _damage_named, readers.export, named=True),
    "choice": Format(0.04, _choices, _damage_named, readers.choice, named=True),
    "index": Format(0.04, _index, _damage_named, readers.index, named=True),
    "gguf": Format(0.03, _gguf, _damage_named, readers.gguf, named=True),
}


def make_all(to: Path, names: list[str]) -> None:
    """Write the sound folders of these formats, one under the name of each."""
    for name in names:
        (to / name).mkdir(parents=True)
        FORMATS[name].make(to / name)


def damaged(name: str, seeds: Path, to: Path, outside: Path, seed: str) -> None:
    """Write the input of a seed: the same each time, as long as the sound folders are."""
    rng = random.Random(seed)
    begin = rng.choice(sorted(path for path in (seeds / name).iterdir()))
    shutil.copytree(begin, to)
    FORMATS[name].damage(to, rng, outside)
    if rng.random() < 0.25 and all(path.is_dir() or _plain(path) for path in to.rglob("*")):
        with contextlib.suppress(Exception):  # the first change may have taken what the second one needs
            FORMATS[name].damage(to, rng, outside)


def _plain(path: Path) -> bool:
    """Whether a path is a regular file of a size that can be changed in memory."""
    about = path.lstat()
    return stat.S_ISREG(about.st_mode) and about.st_size < 1 << 24
