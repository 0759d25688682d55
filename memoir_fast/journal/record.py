"""Records of a journal: a JSON header and tensors, each under its own checksum. No pickle.

    magic "MFR1" | header length, u32 | body length, u64 | BLAKE2b-128 of the bytes before it and of the header | header
    | body

The header names the body's checksum, so headers can be read and trusted without the bodies. The body is a safetensors file: an
edit's signature and its update (see `memory/update.py`), in float32 or bfloat16. torch is loaded by whoever reads or writes a body, not
for the headers: a store's edits can be listed without waiting for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import files
from ..base.json_text import parse
from ..errors import CutOff, Damaged, brief, quoted
from .edit_record import HEADER, LATER

if TYPE_CHECKING:
    import torch

    from ..memory.update import Update

MAGIC = b"MFR1"
LENGTHS = struct.Struct("<4sIQ")
DIGEST = 16
PREFIX = LENGTHS.size + DIGEST
LONGEST_HEADER = 64 << 20
DTYPES = ("float32", "bfloat16")  # that a record's tensors can have


def digest(*parts: bytes | memoryview) -> bytes:
    """The 16-byte BLAKE2b digest of the parts, joined."""
    return digest_of(parts)


def digest_of(parts: Iterable[bytes | memoryview]) -> bytes:
    """The same of parts of which only one need be there at a time."""
    found = hashlib.blake2b(digest_size=DIGEST)
    for part in parts:
        found.update(part)
    return found.digest()


def encode(header: dict[str, Any], body: bytes = b"") -> bytes:
    """A record's bytes. Raises ValueError if its header is larger than readers accept."""
    text = json.dumps(
        {**header, "body": digest(body).hex()}, ensure_ascii=True, allow_nan=False, separators=(",", ":")
    ).encode()
    if len(text) > LONGEST_HEADER:
        raise ValueError(
            f"this record's texts and metadata take {len(text)} bytes, a record holds {LONGEST_HEADER}: nothing was "
            "changed. Keep long documents elsewhere and name them in the metadata"
        )
    lengths = LENGTHS.pack(MAGIC, len(text), len(body))
    return b"".join((lengths, digest(lengths, text), text, body))


@dataclass(frozen=True)
class Entry:
    """A record in a file: its header, and where its body is.

    Attributes:
        path: the file, opened for each reading.
        offset, length: where the record is in the file, bytes.
        body_length: bytes of its body, at the record's end.
        descriptor: the open file, if it has no lasting path.
        link: hexadecimal digest of the record as first written; the next record names it as `after`.
    """

    header: dict[str, Any]
    path: Path
    offset: int
    length: int
    body_length: int
    descriptor: int | None = None
    link: str = ""

    @property
    def seq(self) -> int:
        """The record's number, from 1; 0 for an edit from a memory folder."""
        return self.header["seq"]

    @property
    def forgotten(self) -> bool:
        """Whether this edit's update is not kept: dropped by `compact(forget_before=...)`, or never there (a memory
        folder)."""
        return self.header["kind"] == "edit" and self.body_length == 0

    def raw(self) -> bytes:
        """The record's bytes, as they are on disk. Raises Damaged if the file ends too early."""
        descriptor = files.open_regular(self.path, os.O_RDONLY) if self.descriptor is None else self.descriptor
        try:
            data = os.pread(descriptor, self.length, self.offset)
        finally:
            if self.descriptor is None:
                os.close(descriptor)
        if len(data) != self.length:
            raise Damaged(f"{self.path}: the record at byte {self.offset} is cut off")
        return data

    def body(self) -> bytes:
        """The body. Raises Damaged if it fails its checksum or is cut off."""
        data = self.raw()
        data = data[len(data) - self.body_length :]
        if digest(data).hex() != self.header["body"]:
            raise Damaged(f"{self.path}: the body of record {self.seq} at byte {self.offset} fails its checksum")
        return data


def read_entry(data: bytes | memoryview, size: int, path: Path, offset: int) -> Entry:
    """The record at the start of `data`; its body need not be in `data`.

    Args:
        data: at least the prefix and the header.
        size: bytes from the record's start to the file's end.
        path: the file, for messages.
        offset: where in the file the record begins, bytes.

    Raises:
        Damaged: there is no whole, intact header with room for its body; `CutOff` if the file ends too early.
    """
    where = f"{path}: the record at byte {offset}"
    if size < PREFIX or len(data) < PREFIX:
        raise CutOff(f"{where} is cut off")
    magic, header_length, body_length = LENGTHS.unpack_from(data)
    if magic != MAGIC or header_length > LONGEST_HEADER:
        raise Damaged(f"{where} does not begin as one")
    if PREFIX + header_length > size:
        raise CutOff(f"{where} is cut off")
    text = bytes(data[PREFIX : PREFIX + header_length])
    found = data[LENGTHS.size : PREFIX]
    if digest(data[: LENGTHS.size], text) != found:
        raise Damaged(f"{where} fails its checksum")
    if PREFIX + header_length + body_length > size:
        raise CutOff(f"{where} is cut off")
    try:
        header = parse(text, where)
    except ValueError as error:
        raise Damaged(f"{where} has a malformed header: {error}") from None
    texts = (
        [header.get("kind"), *(header.get(name, "") for name in ("body", "store", "after", "was", "origin", "written"))]
        if isinstance(header, dict)
        else [0]
    )
    numbers = [header.get("seq"), header.get("more", 0)] if isinstance(header, dict) else []
    if not all(isinstance(text, str) for text in texts) or not all(type(n) is int and n >= 0 for n in numbers):
        raise Damaged(f"{where} has a malformed header")
    link = header.get("was") or bytes(found).hex()
    return Entry(header, path, offset, PREFIX + header_length + body_length, body_length, link=link)


def was_whole(data: bytes) -> bool:
    """Whether data that `read_entry` refuses was once a whole record and has changed since.

    That is so if one bit of its lengths was flipped, or if its header is JSON but fails its checksum. An interrupted
    write leaves neither behind.
    """
    if len(data) < PREFIX or data[:4] != MAGIC:
        return False
    _, header_length, _ = LENGTHS.unpack_from(data)
    if header_length <= len(data) - PREFIX:
        text = data[PREFIX : PREFIX + header_length]
        if digest(data[: LENGTHS.size], text) == data[LENGTHS.size : PREFIX]:
            return False
        with contextlib.suppress(ValueError):
            return isinstance(parse(text, "header"), dict)
    for bit in range(32, 8 * LENGTHS.size):
        lengths = bytearray(data[: LENGTHS.size])
        lengths[bit // 8] ^= 1 << bit % 8
        header_length = LENGTHS.unpack(lengths)[1]
        if header_length <= min(LONGEST_HEADER, len(data) - PREFIX):
            if digest(bytes(lengths), data[PREFIX : PREFIX + header_length]) == data[LENGTHS.size : PREFIX]:
                return True
    return False


# ---- headers -----------------------------------------------------------------------------------------------------

_PLAIN = (str, list, dict)  # fields whose type alone is checked
_FIELDS: dict[str, dict[str, Any]] = {
    "edit": HEADER,
    "status": {"changes": list, "created": str},
    "tags": {"id": int, "tags": list, "created": str},
}


def check_header(entry: Entry) -> None:
    """Raise Damaged unless the header has the fields of its kind, each within its range."""
    header = entry.header

    def where() -> str:
        return f"{entry.path}: record {entry.seq}"

    if header["kind"] not in _FIELDS:
        raise Damaged(f"{where()} is of kind {quoted(header['kind'])}, unknown to this version")
    for name, kind in _FIELDS[header["kind"]].items():
        value = header.get(name)
        if (
            type(value) is kind and kind in _PLAIN
        ):  # nearly always; this is done for every record of a store that is opened
            continue
        if not isinstance(value, kind) or isinstance(value, bool) or not _in_range(name, value):
            raise Damaged(f"{where()}: field {name!r} is missing or malformed: {quoted(value)}")
    if header["kind"] == "edit":
        for name, kind in LATER.items():
            value = header.get(name)
            if name not in header or (type(value) is kind and (kind is str or not value)):
                continue
            if not isinstance(value, kind) or (kind is list and not all(isinstance(one, str) for one in value)):
                raise Damaged(f"{where()}: field {name!r} is malformed: {quoted(value)}")
    tags, old, changes = (header.get(name) for name in ("tags", "supersedes", "changes"))
    if (tags and not all(isinstance(tag, str) for tag in tags)) or (old and not all(type(edit) is int for edit in old)):
        raise Damaged(f"{where()}: field 'tags' or 'supersedes' is malformed")
    if type(header.get("by", 0)) is not int:
        raise Damaged(f"{where()}: field 'by' is malformed")
    if changes and not all(
        isinstance(c, list) and len(c) == 2 and type(c[0]) is int and isinstance(c[1], str) for c in changes
    ):
        raise Damaged(f"{where()}: field 'changes' is malformed")


def _in_range(name: str, value: Any) -> bool:
    """Whether a number is one that an edit can have: finite, and within the range of the ledger's columns."""
    if isinstance(value, int):
        return 0 <= value < 1 << 53
    return not isinstance(value, float) or (math.isfinite(value) and (name == "loss" or value >= 0))


def origin_of(header: dict[str, Any]) -> str:
    """What stays the same of an edit through every copy, bundle and merge: when it was made, of what, and which."""
    if "origin" in header:
        return header["origin"]
    told = [header[name] for name in ("created", "prompt", "target", "author", "loss", "seconds")]
    return digest(json.dumps(told).encode()).hex()


# ---- edits -------------------------------------------------------------------------------------------------------


def dtype_of(name: str) -> torch.dtype:
    """The dtype of one of `DTYPES`."""
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def edit_body(update: Update, dtype: torch.dtype) -> bytes:
    """An update's tensors; `update.rounded(dtype)` is what `edit_update` gives back."""
    import torch
    from safetensors.torch import save

    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in update.values().items()}
    return save({"signature": torch.from_numpy(np.ascontiguousarray(update.signature)), **tensors})


def edit_update(entry: Entry, sizes: tuple[int, int, int], tracked: bool) -> Update:
    """The update in an edit's record, with every size, dtype and value checked.

    Args:
        entry: the edit's record.
        sizes: (D, d, k) of the memory.
        tracked: whether the memory keeps C, in which case the features are required.

    Raises:
        ValueError: the update is not kept.
        Damaged: the body or a field of the header is damaged.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from ..memory.update import Update
    from ..ops.checks import all_finite

    D, d, k = sizes
    where, header = f"{entry.path}: record {entry.seq}", entry.header
    if entry.forgotten:
        raise ValueError(
            f"edit {header['id']}: its update is not kept, so it cannot be taken back or brought back (given up by "
            "`compact --forget-before`, or the memory came from a folder, which holds no single updates)"
        )
    try:
        tensors = load(entry.body())
    except SafetensorError as error:
        raise Damaged(f"{where}: its body is not a safetensors file ({brief(error)})") from None
    name = header.get("dtype", "")
    dtype = dtype_of(name) if name in DTYPES else None
    signature = tensors.pop("signature", None)
    if signature is None or signature.dtype != torch.uint8 or tuple(signature.shape) != ((D + 7) // 8,):
        raise Damaged(f"{where}: tensor 'signature' must be uint8 of shape {((D + 7) // 8,)}")
    rows = np.flatnonzero(np.unpackbits(signature.numpy(), bitorder="little"))
    if len(rows) != k or (len(rows) and rows[-1] >= D):
        raise Damaged(f"{where}: tensor 'signature' must have {k} ones within {D} bits, got {len(rows)}")
    n = tensors["moves"].shape[0] if "moves" in tensors and tensors["moves"].dim() == 2 else None
    m = tensors["features"].shape[0] if "features" in tensors and tensors["features"].dim() == 2 else None
    expected: dict[str, tuple[int | None, int]] = (
        {"block": (k, d)} if "block" in tensors else {"moves": (n, k), "G": (n, d)}
    )
    if tracked:
        expected["features"] = (m, k)
    if set(tensors) != set(expected) or dtype is None:
        raise Damaged(f"{where}: holds {sorted(tensors)} in {quoted(header.get('dtype'))}, expected {sorted(expected)}")
    for name, shape in expected.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != shape or tensor.dtype != dtype or not all_finite(tensor):
            raise Damaged(
                f"{where}: tensor {name!r} must be finite, {shape} {dtype}, got {tuple(tensor.shape)} {tensor.dtype}"
            )
    decay: Any = header.get("decay")
    scale: Any = header.get("scale")
    for name, value in (("decay", decay), ("scale", scale)):
        if not isinstance(value, float) or not math.isfinite(value) or not 0 < value <= 1:
            raise Damaged(f"{where}: {name} must be a number in (0, 1], got {quoted(value)}")
    values: dict[str, Any] = {name: tensor.float() for name, tensor in tensors.items()}
    return Update(torch.from_numpy(rows.astype(np.int32)), signature.numpy(), decay, scale, **values)
