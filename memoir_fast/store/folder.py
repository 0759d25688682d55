"""A memory on disk: a folder with config.json, edits.json and memory.safetensors; the base model is never written."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..base import files
from ..config import FORMAT_VERSION, MemoirConfig
from ..editing.rules import rule_of
from ..journal.memory_state import MemoryState, words_among
from ..journal.volatile import VolatileJournal
from ..memory.residual import ResidualMemory

CONFIG, EDITS, TENSORS = "config.json", "edits.json", "memory.safetensors"
READS = (1, 2)  # 1: masks alone route


@dataclass(frozen=True)
class Saved:
    """The contents of a memory folder, checked.

    Attributes:
        tensors: V (D, d) float32, background (D,) float32, permutation (D,) int32, ids (n,) int64,
            signatures (n, ceil(D/8)) uint8, calibration (m, ceil(D/8)) uint8; with write="preconditioned" also C (D, D)
            float32; with router="tokens" also the matcher's, with "words." in front of their names.
    """

    config: MemoirConfig
    fingerprint: dict[str, Any]
    scale: float
    contexts: list[str]
    next_id: int
    edits: list[dict[str, Any]]
    tensors: dict[str, torch.Tensor]


def write(folder: str | Path, state: MemoryState, threshold: float) -> None:
    """Write a memory. Each file is written aside and renamed; config.json, which names the sizes of the others, comes last.

    Args:
        threshold: the median of the edits' thresholds, for people.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    memory = state.memory
    ids = np.asarray(memory.index.ids, dtype=np.int64)
    rows = state.journal.edits
    tensors = {
        "V": memory.V,
        "background": memory.background,
        "permutation": memory.permutation,
        "ids": torch.from_numpy(ids),
        "signatures": torch.from_numpy(memory.index.signatures()),
        **state.measured(),
    }
    if memory.C is not None:
        tensors["C"] = memory.C
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    codes = {int(i): state.journal.state.entries[int(i)].header.get("codes", []) for i in ids}
    edits = json.dumps([rows[i] | {"codes": codes[i]} for i in ids.tolist()], ensure_ascii=False, indent=1).encode()
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
        "bytes": {TENSORS: len(data), EDITS: len(edits)},
    }
    files.replace(folder / TENSORS, data)
    files.replace(folder / EDITS, edits)
    files.replace(folder / CONFIG, json.dumps(config, ensure_ascii=False, indent=2).encode())


def read(folder: str | Path) -> Saved:
    """Read and check a memory folder.

    Raises:
        ValueError: a file is missing, damaged, of a newer format, or does not fit the others; it names file and field.
    """
    folder = Path(folder)
    config = _json(folder / CONFIG, dict)
    if config.get("format") != "memoir_fast":
        raise ValueError(f"{folder / CONFIG}: format is {config.get('format')!r}, expected 'memoir_fast'")
    if config.get("format_version") not in READS:
        raise ValueError(
            f"{folder / CONFIG}: format_version is {config.get('format_version')!r}, this library reads "
            f"{' and '.join(map(str, READS))}"
        )
    try:
        settings = MemoirConfig.from_dict(config["config"])
        saved = Saved(
            config=settings,
            fingerprint=dict(config["fingerprint"]),
            scale=float(config["scale"]),
            contexts=[str(text) for text in config["contexts"]],
            next_id=int(config["next_id"]),
            edits=_json(folder / EDITS, list),
            tensors=_tensors(folder / TENSORS, config["bytes"][TENSORS]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / CONFIG}: missing or malformed field: {error}") from None
    if not 0 < saved.scale <= 1:
        raise ValueError(f"{folder / CONFIG}: scale is {saved.scale}, expected a number in (0, 1]")
    _check(folder, saved)
    return saved


def load_state(folder: str | Path) -> MemoryState:
    """The memory of a folder, with a journal that cannot take its edits back, for it holds no single updates. Errors as for `read`."""
    saved = read(folder)
    tensors = saved.tensors
    D, d = tensors["V"].shape
    if saved.config.top_k is None:
        raise ValueError(f"{Path(folder) / CONFIG}: config.top_k is missing")
    memory = ResidualMemory(D, d, saved.config.top_k, tensors["permutation"])
    memory.background.copy_(tensors["background"])
    memory.feature = saved.config.feature
    if rule_of(saved.config).tracks:
        memory.track()
    memory.fill(tensors["V"], saved.scale, tensors["ids"].tolist(), tensors["signatures"].numpy(), tensors.get("C"))
    journal = VolatileJournal(memory, saved.edits, saved.next_id)
    calibration, words = tensors["calibration"].numpy(), words_among(tensors)
    return MemoryState(saved.config, saved.fingerprint, memory, saved.contexts, calibration, journal, words)


def _check(folder: Path, saved: Saved) -> None:
    """Shapes, dtypes and values of the tensors, against one another and against the list of edits."""
    tensors, path = saved.tensors, folder / TENSORS
    dimension = int(saved.fingerprint.get("in_features", -1))
    hidden = int(saved.fingerprint.get("out_features", -1))
    edits, width = len(saved.edits), (dimension + 7) // 8
    expected: dict[str, tuple[tuple[int, ...] | None, torch.dtype]] = {
        "V": ((dimension, hidden), torch.float32),
        "background": ((dimension,), torch.float32),
        "permutation": ((dimension,), torch.int32),
        "ids": ((edits,), torch.int64),
        "signatures": ((edits, width), torch.uint8),
        "calibration": ((tensors["calibration"].shape[0], width) if "calibration" in tensors else None, torch.uint8),
    }
    if rule_of(saved.config).tracks:
        expected["C"] = ((dimension, dimension), torch.float32)
    for name, (shape, dtype) in expected.items():
        tensor = tensors.get(name)
        if tensor is None or tuple(tensor.shape) != shape or tensor.dtype != dtype:
            found = "nothing" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"
            raise ValueError(f"{path}: tensor {name!r} is {found}, expected {shape} {dtype}")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: tensor {name!r} holds NaN or infinity")
    if [e.get("id") if isinstance(e, dict) else None for e in saved.edits] != tensors["ids"].tolist():
        raise ValueError(f"{folder / EDITS}: its ids are not those of {TENSORS}")


def _json(path: Path, kind: type) -> Any:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file; is {path.parent} a memory folder?") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(value, kind):
        raise ValueError(f"{path}: expected a JSON {'object' if kind is dict else 'array'}")
    return value


def _tensors(path: Path, size: int) -> dict[str, torch.Tensor]:
    try:
        data = path.read_bytes()
        if len(data) != size:
            raise ValueError(f"{path}: {len(data)} bytes, expected {size}: truncated, or of another save")
        return load(data)
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file") from None
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from None
