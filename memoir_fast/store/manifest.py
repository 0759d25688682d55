"""A store's `config.json` and its tensor files: what the log starts from, and how far the newest snapshots reach.

torch is loaded by what reads or writes tensors, not for `config.json`: a store can be described without waiting for it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ..base import files
from ..base.json_text import parse
from ..config import MemoirConfig
from ..editing.update_rule import rule_of
from ..errors import Damaged, StoreError, brief, quoted
from ..journal.journal import CONFLICTS
from ..journal.record import DTYPES, digest, digest_of

if TYPE_CHECKING:
    import torch

CONFIG, BASE = "config.json", "base.safetensors"
FORMAT, FORMAT_VERSION = "memoir_fast store", 8
# Up to version 7 C is half a matrix. Up to version 6 snapshots hold their pages themselves. Up to version 5 a memory has one page. Up to version 4 snapshots hold all of V and C. Up to version 3 the memory acts on all tokens; in 1 and 2 records do not state their place; 1 knows only
# router="mask".
READS = (1, 2, 3, 4, 5, 6, 7, 8)
_LARGEST = 1 << 32  # numbers in V or C; the largest open models have half as many
_WIDEST = 1 << 18  # features of a projection; those of the largest open models have a quarter
MOST_CONFIG, MOST_BASE = 64 << 20, 4 << 30  # bytes of files that the library can have written
_BASE = re.compile(r"base(-\d{6})?\.safetensors")
_SNAPSHOT = re.compile(r"snapshot-\d{12}(-copy)?\.safetensors")


@dataclass(frozen=True)
class Snapshot:
    """A file with C, the signatures and the list of V's pages (see `page_files`) as they were after record `seq`.

    Attributes:
        seq: the record's number.
        file: the file's name.
        digest: of its bytes, hexadecimal.
        scale: the memory's S.
    """

    seq: int
    file: str
    digest: str
    scale: float


@dataclass(frozen=True)
class Manifest:
    """The contents of `config.json`.

    Attributes:
        config: the memory's settings.
        fingerprint: the base model's.
        contexts: see `text/contexts.py`.
        base: digest of `base_file`.
        permutation: digest of TopHash's permutation; stores can be merged only if it is the same.
        conflict: the policy for contradicting edits, see `Journal`.
        record_dtype: of the log's tensors.
        snapshots: at most two, newest first; the second is the one before or, if updates were given up since, a copy of
            the newest.
        base_file: the file with the permutation, the background, the words' matcher and the unrelated prompts. Only the
            prompts ever change, and then a file with a new name is written.
        store: the store's name, drawn at random when it is made; "" in a store of format version 1 or 2 until its
            `config.json` is next written.
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
    store: str = ""

    def save(self, folder: Path) -> None:
        """Write `config.json`, completely or not at all. Raises OSError."""
        files.replace(folder / CONFIG, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The JSON text with its checksum, UTF-8."""
        values = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        values["checksum"] = checksum(values)
        return json.dumps(values, indent=2, ensure_ascii=False).encode()

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read and check `config.json`. Raises ValueError naming file and field."""
        return cls.from_bytes(files.read(folder / CONFIG, MOST_CONFIG), folder / CONFIG)

    @classmethod
    def from_bytes(cls, data: bytes, path: Path) -> Manifest:
        """From the JSON text, with every field checked. path: for messages. Raises ValueError naming file and field."""
        values = parse(data, str(path))
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            found = quoted(values.get("format")) if isinstance(values, dict) else type(values).__name__
            raise ValueError(f"{path}: format is {found}, expected {FORMAT!r}")
        if values.get("format_version") not in READS:
            raise ValueError(
                f"{path}: format_version is {quoted(values.get('format_version'))}, this library reads {', '.join(map(str, READS))}"
            )
        if values.pop("checksum", None) != checksum(values):
            raise ValueError(f"{path}: its checksum does not match: the file was damaged or edited by hand")
        # conflict_threshold is from version 1.
        values = {k: v for k, v in values.items() if k not in ("format", "format_version", "conflict_threshold")}
        try:
            values["config"] = MemoirConfig.from_dict(values["config"])
            values["snapshots"] = [Snapshot(**snapshot) for snapshot in values["snapshots"]]
            self = cls(**values)
            self._check()
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path}: missing or malformed field: {brief(error)}") from None
        return self

    def _check(self) -> None:
        """Raise ValueError, KeyError or TypeError naming a wrong field."""
        texts = [self.base, self.permutation, self.base_file, self.store, *self.contexts]
        if not isinstance(self.contexts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError("base, permutation, base_file, store and contexts must be texts")
        D, d, k = sizes = self.sizes
        if not all(type(size) is int and size > 0 for size in sizes) or k > D:
            raise ValueError(f"in_features, out_features and top_k are {quoted(sizes)}, expected sizes of a projection")
        check_fits(D, d, rule_of(self.config).tracks)
        if self.conflict not in CONFLICTS or self.record_dtype not in DTYPES:
            raise ValueError(f"conflict is {quoted(self.conflict)}, expected one of {CONFLICTS}; record_dtype is "
                             f"{quoted(self.record_dtype)}, expected one of {DTYPES}")  # fmt: skip
        if not _BASE.fullmatch(self.base_file):
            raise ValueError(f"base_file: {quoted(self.base_file)} is not the name of a base file")
        for snapshot in self.snapshots:
            if not isinstance(snapshot.file, str) or not _SNAPSHOT.fullmatch(snapshot.file):
                raise ValueError(f"snapshots: {quoted(snapshot.file)} is not a snapshot's name")
            if type(snapshot.seq) is not int or not 0 <= snapshot.seq < 10**12 or not isinstance(snapshot.digest, str):
                raise ValueError(
                    f"snapshots: seq {quoted(snapshot.seq)} or digest {quoted(snapshot.digest)} is malformed"
                )
            if type(snapshot.scale) is not float or not 0 < snapshot.scale <= 1:
                raise ValueError(f"snapshots: scale {quoted(snapshot.scale)} is not in (0, 1]")

    def named(self) -> Manifest:
        """The same, with a name if it has none yet."""
        return self if self.store else replace(self, store=secrets.token_hex(16))

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


def is_store(folder: str | Path) -> bool:
    """Whether a folder holds a store, possibly a damaged one (opening it says what is wrong)."""
    return (Path(folder) / CONFIG).exists() and any(Path(folder).glob("base*.safetensors"))


def is_snapshot(name: str) -> bool:
    """Whether a file of this name is a store's snapshot."""
    return _SNAPSHOT.fullmatch(name) is not None


def check_fits(in_features: int, out_features: int, tracked: bool, pages: int = 1) -> None:
    """Raise ValueError for a memory that no known projection has, or this machine no room for. tracked: with C; pages: how many it has."""
    D, d = in_features, out_features
    numbers = pages * D * d + (D * D if tracked else 0)
    if max(D, d) > _WIDEST or max(D * d, D * D if tracked else 0) > _LARGEST or 4 * numbers > _memory():
        raise ValueError(f"in_features {D} and out_features {d} make a memory of {4 * numbers / 1e9:.1f} GB, more than this machine has, "
                         "or no projection of that size is known")  # fmt: skip


def _memory() -> int:
    """This machine's main memory, bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def checksum(values: dict[str, Any]) -> str:
    """The value of the field `checksum` in a `config.json` with these other fields."""
    return digest(json.dumps(values, sort_keys=True, ensure_ascii=True).encode()).hex()


# ---- tensor files ------------------------------------------------------------------------------------------------


def read_base(folder: Path, kept: Manifest) -> dict[str, torch.Tensor]:
    """The tensors in the base file that a manifest names. Raises ValueError as `read_tensors`."""
    return read_tensors(folder / kept.base_file, kept.base, base_shapes(kept.sizes[0]))


def newest(folder: Path) -> tuple[Manifest, dict[str, torch.Tensor]]:
    """A store's manifest and the matching tensors of its base file, even if a writer that calibrates replaces both
    meanwhile.

    Raises ValueError as `Manifest.load` and `read_tensors`.
    """
    kept = Manifest.load(folder)
    while True:
        try:
            return kept, read_base(folder, kept)
        except ValueError:
            before, kept = kept, Manifest.load(folder)
            if kept.base_file == before.base_file:
                raise


SUMS = "C.sums"  # the tensor in a snapshot that says how far C has drifted, see `memory/drift.py`
OPTIONAL = (SUMS,)  # what earlier versions did not write
# What a tensor file must hold, or may (`OPTIONAL`): name -> (shape, dtype); None in a shape stands for any size. Or what
# says it of the tensors that were found.
Shapes: TypeAlias = "dict[str, tuple[tuple[int | None, ...], torch.dtype]]"
ShapesOf: TypeAlias = "Callable[[dict[str, torch.Tensor]], Shapes]"


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> str:
    """Write a safetensors file and read it back; returns the digest of its bytes."""
    from safetensors.torch import save

    return write_bytes(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def write_bytes(path: Path, data: bytes) -> str:
    """Write a file and read it back; returns the digest of its bytes."""
    files.replace(path, data)
    found = digest(data)
    if digest_of(files.parts(path)) != found:
        raise StoreError(f"{path}: what was written reads back differently: the disk is failing")
    return found.hex()


def read_tensors(
    path: Path, expected_digest: str, shapes: Shapes | ShapesOf, most: int = MOST_BASE
) -> dict[str, torch.Tensor]:
    """The tensors of a file of at most `most` bytes. Raises ValueError unless its size, its digest and its tensors are as expected."""
    data = files.read(path, most)
    if digest(data).hex() != expected_digest:
        raise ValueError(f"{path}: its checksum is not the one in {CONFIG}: truncated, damaged, or from another store")
    return check_tensors(data, path, shapes)


def check_tensors(data: bytes, path: Path, shapes: Shapes | ShapesOf) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file's bytes; path: for messages. Raises ValueError for a wrong shape or dtype, NaN or infinity."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    from ..ops.checks import all_finite

    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({brief(error)})") from None
    for name, (shape, dtype) in (shapes(tensors) if callable(shapes) else shapes).items():
        tensor = tensors.get(name)
        if tensor is None and name in OPTIONAL:
            continue
        if tensor is None or not is_of(tensor, shape, dtype):
            found = "nothing" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"
            raise ValueError(f"{path}: tensor {name!r} is {found}, expected {shape} {dtype}")
        if tensor.is_floating_point() and not all_finite(tensor):
            raise ValueError(f"{path}: tensor {name!r} holds NaN or infinity")
    return tensors


def is_of(tensor: torch.Tensor, shape: tuple[int | None, ...], dtype: torch.dtype) -> bool:
    """Whether a tensor has a dtype and a shape, in which None stands for any size."""
    if (tensor.dtype, tensor.dim()) != (dtype, len(shape)):
        return False
    return all(want is None or have == want for have, want in zip(tensor.shape, shape, strict=True))


def base_shapes(dimension: int) -> Shapes:
    """What `base.safetensors` holds for D input features."""
    import torch

    width = (dimension + 7) // 8
    return {
        "permutation": ((dimension,), torch.int32),
        "background": ((dimension,), torch.float32),
        "calibration": ((None, width), torch.uint8),
    }


def check_snapshots(folder: Path, seq: int, kept: Manifest) -> None:
    """Raise Damaged where a log that ends at record `seq` lacks records that were there when a snapshot was taken, whatever became of its file."""
    newest = max((snapshot.seq for snapshot in kept.snapshots), default=0)
    if seq < newest:
        raise Damaged(
            f"{folder}: the log ends at record {seq}, before the snapshot of {newest}: a segment is missing or cut short. Put it back from a copy"
        )


def permutation_digest(permutation: torch.Tensor) -> str:
    """The hexadecimal digest of a permutation (D,)."""
    import torch

    return digest(permutation.to("cpu", torch.int32).contiguous().numpy().tobytes()).hex()
