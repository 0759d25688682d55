"""A store's `config.json` and its tensor files: what the log starts from, and how far the newest snapshots reach."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..base import files
from ..config import MemoirConfig
from ..errors import StoreError
from ..journal.record import digest

CONFIG, BASE = "config.json", "base.safetensors"
FORMAT, FORMAT_VERSION = "memoir_fast store", 2
READS = (1, 2)  # 1: masks alone route
_LARGEST = 1 << 31  # numbers in V; the largest open models have half as many in one projection
_BASE = re.compile(r"base(-\d{6})?\.safetensors")
_SNAPSHOT = re.compile(r"snapshot-\d{12}\.safetensors")


@dataclass(frozen=True)
class Snapshot:
    """V, C and the signatures after record `seq`.

    Attributes:
        file: its name; digest: of its bytes; scale: the memory's S.
    """

    seq: int
    file: str
    digest: str
    scale: float


@dataclass(frozen=True)
class Manifest:
    """The contents of `config.json`.

    Attributes:
        config: the memory's settings; fingerprint: the base model's; contexts: see `text/contexts.py`.
        base: digest of `base_file` (permutation, background, the words' matcher, the unrelated prompts); only the prompts ever change, and
            then in a file of a new name.
        permutation: digest of TopHash's permutation, the same for stores that can be merged.
        conflict: what a new edit does to stored ones that ask the same with another target.
        record_dtype: of the log's tensors.
        snapshots: newest first; the one before the newest is kept.
    """

    config: MemoirConfig
    fingerprint: dict
    contexts: list[str]
    base: str
    permutation: str
    conflict: str
    record_dtype: str
    snapshots: list[Snapshot] = field(default_factory=list)
    base_file: str = BASE

    def save(self, folder: Path) -> None:
        """Write `config.json`, whole or not at all."""
        files.replace(folder / CONFIG, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The JSON text, with its checksum."""
        values = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        values["checksum"] = _checksum(values)
        return json.dumps(values, indent=2, ensure_ascii=False).encode()

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read and check `config.json`. Raises ValueError naming file and field."""
        return cls.from_bytes(files.read(folder / CONFIG), folder / CONFIG)

    @classmethod
    def from_bytes(cls, data: bytes, path: Path) -> Manifest:
        """From the JSON text, every field checked; path: for messages. Raises ValueError naming file and field."""
        try:
            values = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not JSON ({error})") from None
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            found = values.get("format") if isinstance(values, dict) else type(values).__name__
            raise ValueError(f"{path}: format is {found!r}, expected {FORMAT!r}")
        if values.get("format_version") not in READS:
            raise ValueError(
                f"{path}: format_version is {values.get('format_version')!r}, this library reads {' and '.join(map(str, READS))}"
            )
        if values.pop("checksum", None) != _checksum(values):
            raise ValueError(f"{path}: its checksum does not match: the file was damaged or edited by hand")
        try:
            gone = (
                "format",
                "format_version",
                "conflict_threshold",
            )  # the last one: of the masks' overlap, in version 1
            values = {key: value for key, value in values.items() if key not in gone}
            values["config"] = MemoirConfig.from_dict(values["config"])
            values["snapshots"] = [Snapshot(**snapshot) for snapshot in values["snapshots"]]
            self = cls(**values)
            sizes = self.sizes
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path}: missing or malformed field: {error}") from None
        D, d, k = sizes
        if not all(type(size) is int and size > 0 for size in sizes) or D * d > _LARGEST or D > 1 << 20 or k > D:
            raise ValueError(f"{path}: in_features, out_features and top_k are {sizes}, expected sizes of a projection")
        if not isinstance(self.base_file, str) or not _BASE.fullmatch(self.base_file):
            raise ValueError(f"{path}: base_file: {self.base_file!r} is not the name of one")
        for snapshot in self.snapshots:
            if not isinstance(snapshot.file, str) or not _SNAPSHOT.fullmatch(snapshot.file):
                raise ValueError(f"{path}: snapshots: {snapshot.file!r} is not a snapshot's name")
            if type(snapshot.seq) is not int or type(snapshot.scale) is not float or not 0 < snapshot.scale <= 1:
                raise ValueError(f"{path}: snapshots: seq {snapshot.seq!r}, scale {snapshot.scale!r} are malformed")
        return self

    def with_snapshot(self, snapshot: Snapshot) -> Manifest:
        """A copy with a newer snapshot; the newest two are kept."""
        return replace(self, snapshots=[snapshot, *(s for s in self.snapshots if s.seq != snapshot.seq)][:2])

    def next_base(self) -> str:
        """The name of the next base file."""
        number = self.base_file.removeprefix("base").removeprefix("-").removesuffix(".safetensors")
        return f"base-{int(number or 0) + 1:06d}.safetensors"

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(D, d, k)."""
        return self.fingerprint["in_features"], self.fingerprint["out_features"], cast(int, self.config.top_k)


def _checksum(values: dict[str, Any]) -> str:
    return digest(json.dumps(values, sort_keys=True, ensure_ascii=True).encode()).hex()


# ---- tensor files ------------------------------------------------------------------------------------------------


def newest(folder: Path) -> tuple[Manifest, dict[str, torch.Tensor]]:
    """A store's manifest and the tensors of its base file, of one moment: a writer that calibrates meanwhile replaces both.

    Raises ValueError as `Manifest.load` and `read_tensors`.
    """
    kept = Manifest.load(folder)
    while True:
        try:
            return kept, read_tensors(folder / kept.base_file, kept.base, base_shapes(kept.sizes[0]))
        except ValueError:
            before, kept = kept, Manifest.load(folder)
            if kept.base_file == before.base_file:
                raise


# What a tensor file must hold: name -> (shape, None for any size, and dtype).
Shapes: TypeAlias = "dict[str, tuple[tuple[int | None, ...], torch.dtype]]"


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> str:
    """Write a safetensors file and read it back; returns the digest of its bytes."""
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    files.replace(path, data)
    if files.read(path) != data:
        raise StoreError(f"{path}: what was written reads back differently: the disk is failing")
    return digest(data).hex()


def read_tensors(path: Path, expected_digest: str, shapes: Shapes) -> dict[str, torch.Tensor]:
    """The tensors of a file. Raises ValueError unless its digest and its tensors are as expected."""
    data = files.read(path)
    if digest(data).hex() != expected_digest:
        raise ValueError(f"{path}: its checksum is not the one in {CONFIG}: truncated, damaged, or of another store")
    return check_tensors(data, path, shapes)


def check_tensors(data: bytes, path: Path, shapes: Shapes) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file's bytes; path: for messages. Raises ValueError for a wrong shape or dtype, NaN or infinity."""
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from None
    for name, (shape, dtype) in shapes.items():
        tensor = tensors.get(name)
        if (
            tensor is None
            or (tensor.dtype, tensor.dim()) != (dtype, len(shape))
            or any(want is not None and have != want for have, want in zip(tensor.shape, shape, strict=True))
        ):
            found = "nothing" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"
            raise ValueError(f"{path}: tensor {name!r} is {found}, expected {shape} {dtype}")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: tensor {name!r} holds NaN or infinity")
    return tensors


def base_shapes(dimension: int) -> Shapes:
    """What `base.safetensors` holds for D input features."""
    width = (dimension + 7) // 8
    return {
        "permutation": ((dimension,), torch.int32),
        "background": ((dimension,), torch.float32),
        "calibration": ((None, width), torch.uint8),
    }


def snapshot_shapes(dimension: int, hidden: int, tracked: bool) -> Shapes:
    """What a snapshot holds for D input and d output features; tracked: with C."""
    width = (dimension + 7) // 8
    shapes: Shapes = {
        "V": ((dimension, hidden), torch.float32),
        "ids": ((None,), torch.int64),
        "signatures": ((None, width), torch.uint8),
    }
    if tracked:
        shapes["C"] = ((dimension, dimension), torch.float32)
    return shapes


def permutation_digest(permutation: torch.Tensor) -> str:
    """The hexadecimal digest of a permutation (D,)."""
    return digest(permutation.to("cpu", torch.int32).contiguous().numpy().tobytes()).hex()
