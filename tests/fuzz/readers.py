"""What the library does with each kind of file: all that a user could do with it, as far as it gets."""

from __future__ import annotations

import contextlib
import io
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from memoir_fast.base import files, tuned
from memoir_fast.base.gguf_file import check_gguf, check_whole
from memoir_fast.cli import app
from memoir_fast.compat.data import DATA_TYPES, load_records
from memoir_fast.compat.params import MEMOIRHyperParams
from memoir_fast.compat.tensors import import_memory, load_background, permutation_of
from memoir_fast.errors import EditError, StoreError
from memoir_fast.evaluation.edit_file import load_edits
from memoir_fast.evaluation.facts import load_facts
from memoir_fast.evaluation.questions import load_questions
from memoir_fast.ops.search import codes_of, read_flat
from memoir_fast.reading.background import load_texts
from memoir_fast.serving.export import edits_of, is_export
from memoir_fast.serving.section import check_section
from memoir_fast.store import Store, export_bundle, import_bundle, merge
from memoir_fast.store import folder as saving
from tests.support.models import tiny_memoir, tiny_model, word_tokenizer

DOCUMENTED = (ValueError, TypeError, StoreError, EditError)
LONGEST_MESSAGE = 2000
SLOWEST = 5.0  # seconds of one use of a file


class Wrong(Exception):
    """The library did something that it must not do with a file."""


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Let documented errors pass, if they came in time and what they say is short."""
    begun = time.monotonic()
    try:
        yield
    except DOCUMENTED as error:
        if len(str(error)) > LONGEST_MESSAGE:
            raise Wrong(f"a message of {len(str(error))} characters: {str(error)[:300]}") from error
    if (took := time.monotonic() - begun) > SLOWEST:
        raise Wrong(f"took {took:.1f} s")


def _looked_at(store: Store) -> None:
    """What a reader can ask."""
    for ask in (store.verify, store.history, store.refresh, store.memory_state):
        with allowed():
            ask()
    rows = [store.state.row(edit) for edit in store.state.entries]
    json.dumps(rows).encode("utf-8", "surrogatepass")
    for edit in list(store.state.entries)[:3]:
        with allowed():
            store.state.update_of(edit)


def store(folder: Path) -> None:
    """A store: read, printed by the command line, changed, compacted, made a bundle, merged into another one."""
    place = folder / "store"
    with allowed(), Store(place) as reader:
        _looked_at(reader)
    for words in (["info"], ["log", "--all", "--json", "-"], ["verify"]):
        command_line([*words, "--store", str(place)])
    with allowed(), Store(place, writer=True) as writer:
        _looked_at(writer)
        edits = list(writer.state.entries)
        changes: list[Callable[[], Any]] = [
            writer.ledger_rows,
            lambda: writer.rollback(0),
            lambda: writer.rollback("2026-01-01T00:00:00+00:00", empty=True),
        ]
        for edit in edits[:4]:
            changes += [lambda e=edit: writer.restore(e), lambda e=edit: writer.delete(e)]  # type: ignore[misc]
        for change in [*changes, writer.compact, lambda: export_bundle(writer, folder / "out.mfb")]:
            with allowed():
                change()
    with allowed(), Store(place) as reader:
        reader.verify()
    if (folder / "mine").is_dir():
        with allowed(), Store(folder / "mine", writer=True) as mine, Store(place) as other:
            merge(mine, other)
        with Store(folder / "mine") as mine:  # which nobody has damaged
            if problems := mine.verify()["problems"]:
                raise Wrong(f"merging damaged the store that took the edits: {problems}")


def bundle(folder: Path) -> None:
    """A bundle, made a store again."""
    made = folder / "made"
    with allowed():
        import_bundle(folder / "bundle.mfb", made).close()
        with Store(made, writer=True) as again:
            _looked_at(again)
        return
    if made.exists() and any(made.iterdir()):
        raise Wrong(f"a refused bundle left {sorted(path.name for path in made.iterdir())} behind")


def memory(folder: Path) -> None:
    """A memory folder, and a save over it."""
    with allowed():
        state = saving.load_state(folder / "memory")
        [row | {} for row in state.journal.edits.values()]
        saving.write(folder / "again", state, 0.5)
        saving.read(folder / "again")
    with allowed():
        saving.write(folder / "memory", saving.load_state(folder / "good"), 0.5)
        saving.read(folder / "memory")


def facts(folder: Path) -> None:
    """JSONL, CSV and JSON files of facts, of edits, of questions and of unrelated prompts."""
    path, table = folder / "facts.jsonl", folder / "facts.csv"
    table.symlink_to(path)  # the same bytes under the name that says CSV
    for read in (
        load_facts,
        load_texts,
        lambda path: load_edits(path).checked(),
        lambda path: load_questions(path, "from"),
    ):
        with allowed():
            read(path)
    for read in (lambda path: load_edits(path).checked(), lambda path: load_questions(path, "from")):
        with allowed():
            read(table)
    for kind in DATA_TYPES:
        with allowed():
            for found in load_records(path, kind):
                found.request()


def choice(folder: Path) -> None:
    """A file of `memoir-fast tune`."""
    with allowed():
        tuned.applied(_model().config.updated(tuned=str(folder / "tuned.json"), layer=None), _base()[0], _base()[1])


def yaml(folder: Path) -> None:
    """The published editor's settings."""
    with allowed():
        MEMOIRHyperParams.from_hparams(str(folder / "params.yaml")).config()


def tensors(folder: Path) -> None:
    """The published editor's tensors."""
    for read in (load_background, permutation_of, lambda path: import_memory(_model(), path)):
        for name in ("background.pt", "memory.pt"):
            with allowed():
                read(folder / name)
    if len(_model().memory):
        _fresh()


def index(folder: Path) -> None:
    """A written FAISS index."""
    with allowed():
        codes_of(read_flat(folder / "codes.index", 12))


def gguf(folder: Path) -> None:
    """The header of a GGUF file."""
    with allowed():
        check_whole(check_gguf(folder / "model.gguf"))


def export(folder: Path) -> None:
    """A checkpoint for vLLM, as far as this library reads it."""
    from safetensors.torch import load

    from memoir_fast.serving.vllm.served import Served
    from memoir_fast.serving.vllm.words import ServedWords

    place = folder / "export"
    with allowed():
        is_export(place)
    with allowed():
        edits_of(place)
    with allowed():
        try:
            settings = json.loads(files.read(place / "config.json", 1 << 20))["memoir"]
            found = load(files.read(place / "memoir.safetensors", 1 << 24))
        except Exception:  # vLLM reads these two; what it makes of them is its own affair
            return
        check_section(settings)
        words = ServedWords(word_tokenizer()) if settings["router"] == "tokens" else None
        Served(settings, words=words).load(found)


def command_line(arguments: list[str]) -> None:
    """The command line: it must end with a status, print nothing that steers a terminal, and raise nothing."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = app.main(arguments)
    text = err.getvalue() + (out.getvalue() if "--json" not in arguments else "")
    if status not in (0, 2) or not all(character.isprintable() or character == "\n" for character in text):
        raise Wrong(f"the command line ended with {status} and printed {text[:300]!r}")


_MADE: dict[str, Any] = {}


def _base() -> tuple[Any, Any]:
    if "base" not in _MADE:
        _MADE["base"] = (tiny_model("llama"), word_tokenizer())
    return _MADE["base"]


def _model() -> Any:
    if "model" not in _MADE:
        torch.manual_seed(0)
        _MADE["model"] = tiny_memoir()
    return _MADE["model"]


def _fresh() -> None:
    _MADE.pop("model")


def warm(read: Callable[[Path], None]) -> None:
    """Make what a reader needs besides its files, before its time is taken."""
    warnings.simplefilter("ignore")
    if read in (choice, tensors):
        _base(), _model()
