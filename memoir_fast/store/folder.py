"""A memory on disk: a folder with config.json, edits.json and memory.safetensors. The base model is never written.

A save happens completely or not at all: the three files are written to the folder `saving.part` and then moved out of
it one by one, config.json last. While `saving.part` holds a config.json, that one is valid, and each file that it names
is in one of the two places.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..base import files
from ..base.json_text import parse
from ..config import MemoirConfig
from ..editing.update_rule import rule_of
from ..errors import Damaged, brief, quoted
from ..journal.edit_record import EditRecord
from ..journal.memory_state import MemoryState, words_among
from ..journal.record import Entry, check_header, digest
from ..journal.volatile import VolatileJournal
from ..memory.pages import page_of
from ..memory.residual import ResidualMemory
from ..ops.checks import all_finite
from . import snapshots
from .manifest import MOST_BASE, MOST_CONFIG, SUMS, check_fits, checksum, is_of

CONFIG, EDITS, TENSORS = "config.json", "edits.json", "memory.safetensors"
SAVING = "saving.part"
# Up to version 6 C is half a matrix; up to 5 a memory has one page; up to version 4 V and C are whole; up to version 3 the memory acts on all tokens; 1 and 2 have sizes instead of digests; 1 knows only router="mask".
FORMAT_VERSION, READS = 7, (1, 2, 3, 4, 5, 6, 7)
_TRIES = 3  # how often a reader tries again because a save replaced the files it was reading


@dataclass(frozen=True)
class Saved:
    """The checked contents of a memory folder.

    Attributes:
        config: the memory's settings.
        fingerprint: the base model's.
        scale: S.
        contexts: the short texts that edits are trained behind.
        next_id: the id that the next edit gets.
        edits: the active edits' rows, ascending by id.
        tensors: what `snapshots.tensors_of` makes of the memory, or, from earlier versions, V (D, d) and C (D, D) whole; background
            (D,) float32, permutation (D,) int32, calibration (m, ceil(D/8)) uint8; with router="tokens" also the matcher's
            tensors, with "words." in front of their names.
    """

    config: MemoirConfig
    fingerprint: dict[str, Any]
    scale: float
    contexts: list[str]
    next_id: int
    edits: list[dict[str, Any]]
    tensors: dict[str, torch.Tensor]


def write(folder: str | Path, state: MemoryState, threshold: float) -> None:
    """Write a memory to a folder, completely or not at all, replacing one that is there.

    Args:
        folder: made if it does not exist.
        state: the memory.
        threshold: the median of the edits' thresholds, for information only.

    Raises:
        ValueError: a folder stands in the place of one of the files, or a file in the folder's.
        OSError: a file could not be written.
    """
    folder = Path(folder)
    files.make_folder(folder)
    memory = state.memory
    rows = state.journal.edits
    tensors = {
        **{name: tensor for name, tensor in snapshots.tensors_of(memory).items() if name != SUMS},
        "background": memory.background,
        "permutation": memory.permutation,
        **state.measured(),
    }
    ids = tensors["ids"].tolist()
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    codes = {i: state.journal.state.entries[i].header.get("codes", []) for i in ids}
    edits = json.dumps([rows[i] | {"codes": codes[i]} for i in ids], ensure_ascii=False, indent=1).encode()
    config = {
        "format": "memoir_fast",
        "format_version": FORMAT_VERSION,
        "fingerprint": state.fingerprint,
        "config": asdict(state.config),
        "scale": memory.scale,
        "threshold": threshold,
        "contexts": state.contexts,
        "next_id": state.journal.next_id,
        "edits": len(ids),
        "digests": {TENSORS: digest(data).hex(), EDITS: digest(edits).hex()},
    }
    config["checksum"] = checksum(config)
    described = json.dumps(config, ensure_ascii=False, indent=2).encode()
    _swap(folder, {TENSORS: data, EDITS: edits, CONFIG: described})


def _swap(folder: Path, contents: dict[str, bytes]) -> None:
    """Put these files into a folder, all at once; the last one makes the save count."""
    with files.alone(folder):
        saving = folder / SAVING
        _finish(folder)
        for name in contents:
            files.check_no_folder(folder / name)  # before the save counts, which could not be moved into place
        saving.mkdir()
        for name, data in contents.items():
            files.replace(saving / name, data)
        files.sync_folder(folder)
        _finish(folder)


def _finish(folder: Path) -> None:
    """Move a complete save into place; delete an interrupted one. Raises ValueError for what is in the way."""
    saving = folder / SAVING
    if not files.is_folder(saving):
        saving.unlink(missing_ok=True)  # a link, or a foreign file
        return
    names = (TENSORS, EDITS, CONFIG)
    for path in saving.iterdir():
        if path.name not in {*names, *(f"{name}.part" for name in names)}:
            raise ValueError(f"{path}: is none of a save's files: move it away")
        files.check_no_folder(path)
    whole = (saving / CONFIG).exists()
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            if whole:
                files.move(saving / name, folder / name)
            else:
                (saving / name).unlink()
        (saving / f"{name}.part").unlink(missing_ok=True)
    saving.rmdir()
    files.sync_folder(folder)


def _places(folder: Path) -> Iterator[Path]:
    """Where the files may be, newest first."""
    if files.is_folder(folder / SAVING) and (folder / SAVING / CONFIG).exists():
        yield folder / SAVING
    yield folder


def read(folder: str | Path) -> Saved:
    """Read and check a memory folder.

    Raises:
        ValueError: a file is missing, damaged, in a newer format, or does not fit the others; the message names file
            and field.
    """
    folder = Path(folder)
    for left in range(_TRIES, -1, -1):
        data = _find(folder, CONFIG, MOST_CONFIG)
        try:
            return _read(folder, data)
        except ValueError:
            if not left or _find(folder, CONFIG, MOST_CONFIG) == data:  # otherwise a save replaced the files meanwhile
                raise
    raise AssertionError


def _read(folder: Path, data: bytes) -> Saved:
    """Read and check a memory folder, given the bytes of its `config.json`."""
    config = _json(data, folder / CONFIG, dict)
    if config.get("format") != "memoir_fast":
        raise ValueError(f"{folder / CONFIG}: format is {quoted(config.get('format'))}, expected 'memoir_fast'")
    version = config.get("format_version")
    if version not in READS:
        raise ValueError(
            f"{folder / CONFIG}: format_version is {quoted(version)}, this library reads {', '.join(map(str, READS))}"
        )
    if version >= 3 and config.pop("checksum", None) != checksum(config):
        raise ValueError(f"{folder / CONFIG}: its checksum does not match: the file was damaged or edited by hand")
    try:
        settings = MemoirConfig.from_dict(config["config"])
        sizes = [config["fingerprint"].get(name) for name in ("in_features", "out_features")]
        if not all(type(size) is int and 0 < size <= 1 << 24 for size in sizes):
            raise ValueError(f"fingerprint: in_features and out_features are {quoted(sizes)}")
        check_fits(sizes[0], sizes[1], rule_of(settings).tracks)
        next_id = config["next_id"]
        if type(next_id) is not int or not 0 <= next_id < 1 << 53:
            raise ValueError(f"{folder / CONFIG}: next_id is {quoted(next_id)}, expected a number above every edit's")
        numbers = math.prod(sizes) * _pages(settings, next_id) + (sizes[0] ** 2 if rule_of(settings).tracks else 0)
        known = config["digests"] if version >= 3 else config["bytes"]
        edits = _part(folder, EDITS, known[EDITS], MOST_BASE)
        tensors = _part(folder, TENSORS, known[TENSORS], 4 * numbers + MOST_BASE)
        saved = Saved(
            config=settings,
            fingerprint=dict(config["fingerprint"]),
            scale=config["scale"],
            contexts=list(config["contexts"]),
            next_id=next_id,
            edits=_json(edits, folder / EDITS, list),
            tensors=load(tensors),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / CONFIG}: missing or malformed field: {brief(error)}") from None
    except SafetensorError as error:
        raise ValueError(f"{folder / TENSORS}: not a safetensors file ({brief(error)})") from None
    if type(saved.scale) not in (int, float) or not 0 < saved.scale <= 1:
        raise ValueError(f"{folder / CONFIG}: scale is {quoted(saved.scale)}, expected a number in (0, 1]")
    if not all(isinstance(text, str) for text in saved.contexts):
        raise ValueError(f"{folder / CONFIG}: contexts must be texts, got {quoted(saved.contexts)}")
    _check(folder, saved)
    return saved


def load_state(folder: str | Path) -> MemoryState:
    """The memory in a folder. Its edits cannot be undone, because the folder holds no single updates. Raises as
    `read`."""
    saved = read(folder)
    tensors = saved.tensors
    D, d = (saved.fingerprint[name] for name in ("in_features", "out_features"))
    if saved.config.top_k is None:
        raise ValueError(f"{Path(folder) / CONFIG}: config.top_k is missing")
    memory = ResidualMemory(D, d, saved.config.top_k, tensors["permutation"], saved.config.page_edits or 0)
    memory.background.copy_(tensors["background"])
    memory.feature = saved.config.feature
    if rule_of(saved.config).tracks:
        memory.track()
    snapshots.fill(memory, tensors, saved.scale)
    journal = VolatileJournal(memory, saved.edits, saved.next_id)
    calibration, words = tensors["calibration"].numpy(), words_among(tensors)
    return MemoryState(saved.config, saved.fingerprint, memory, saved.contexts, calibration, journal, words)


def _pages(config: MemoirConfig, next_id: int) -> int:
    """How many pages the edits with ids below `next_id` can have."""
    return page_of(max(0, next_id - 1), config.page_edits) + 1


def _check(folder: Path, saved: Saved) -> None:
    """Check the tensors' shapes, dtypes and values, and that they agree with the list of edits. Raises ValueError."""
    tensors, path = saved.tensors, folder / TENSORS
    dimension = int(saved.fingerprint.get("in_features", -1))
    hidden = int(saved.fingerprint.get("out_features", -1))
    edits, width = len(saved.edits), (dimension + 7) // 8
    expected: dict[str, tuple[tuple[int | None, ...] | None, torch.dtype]] = {
        **snapshots.shapes_of(tensors, dimension, hidden, rule_of(saved.config).tracks),
        "background": ((dimension,), torch.float32),
        "permutation": ((dimension,), torch.int32),
        "ids": ((edits,), torch.int64),
        "signatures": ((edits, width), torch.uint8),
        "calibration": ((tensors["calibration"].shape[0], width) if "calibration" in tensors else None, torch.uint8),
    }
    expected.pop(SUMS, None)  # which a folder does not hold
    for name, (shape, dtype) in expected.items():
        tensor = tensors.get(name)
        if tensor is None or shape is None or not is_of(tensor, shape, dtype):
            found = "nothing" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"
            raise ValueError(f"{path}: tensor {name!r} is {found}, expected {shape} {dtype}")
        if tensor.is_floating_point() and not all_finite(tensor):
            raise ValueError(f"{path}: tensor {name!r} holds NaN or infinity")
    ids = tensors["ids"].tolist()
    if [e.get("id") if isinstance(e, dict) else None for e in saved.edits] != ids:
        raise ValueError(f"{folder / EDITS}: its ids are not those of {TENSORS}")
    if not max(ids, default=-1) < saved.next_id:
        raise ValueError(f"{folder / CONFIG}: next_id is {quoted(saved.next_id)}, expected a number above every edit's")
    snapshots.check_rows(
        tensors, path, (dimension, hidden), rule_of(saved.config).tracks, _pages(saved.config, saved.next_id)
    )
    for row in saved.edits:
        header = {**EditRecord.of(row).row(), "codes": row.get("codes", []), "kind": "edit"}
        try:
            check_header(Entry({**header, "seq": row["id"]}, folder / EDITS, 0, 0, 0))
        except Damaged as error:
            raise ValueError(str(error)) from None


def _find(folder: Path, name: str, most: int) -> bytes:
    """A file's bytes, from where it is (see `_places`). Raises ValueError if there is none."""
    for place in _places(folder):
        if place != folder and not (place / name).exists():
            continue
        try:
            return files.read(place / name, most)
        except FileNotFoundError:
            break
        except ValueError as error:
            if place == folder or (place / name).exists():
                said = str(error)
                hint = (
                    f"; is {folder} a memory folder?"
                    if said.endswith("there is no such file") and name == CONFIG
                    else ""
                )
                raise ValueError(said + hint) from None
    raise ValueError(f"{folder / name}: there is no such file")


def _part(folder: Path, name: str, known: str | int, most: int) -> bytes:
    """The bytes of a file that config.json names, checked by their digest or, in old versions, by their number."""
    data = _find(folder, name, most)
    found = len(data) if isinstance(known, int) else digest(data).hex()
    if found != known:
        what = (
            f"{found} bytes, expected {known}"
            if isinstance(known, int)
            else "its checksum is not the one in config.json"
        )
        raise ValueError(f"{folder / name}: {what}: truncated, damaged, or from another save")
    return data


def _json(data: bytes, path: Path, kind: type) -> Any:
    value = parse(data, str(path))
    if not isinstance(value, kind):
        raise ValueError(f"{path}: expected a JSON {'object' if kind is dict else 'array'}")
    return value
