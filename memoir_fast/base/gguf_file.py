"""Finds what is wrong with a GGUF file from its header, before anything is converted."""

from __future__ import annotations

import importlib.util
import mmap
import re
import struct
from pathlib import Path
from typing import Any

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a field's value, by its kind
_TEXT, _LIST = 8, 9
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_SHOWN_LIST = 4096  # longer lists are a vocabulary's; only their length is told
_DEEPEST = 16  # lists in lists; no model's header has more than two
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)


def check_gguf(path: Path) -> Path:
    """The path itself, if it looks like one GGUF file; only its first bytes are read.

    Raises:
        ValueError: there is no such file, the gguf package is missing, or the file is empty, not a GGUF file, one part
            of several, or without tensors; the message says what to do.
    """
    if not path.is_file():
        near = [other.name for other in path.parent.glob("*") if other.name.lower() == path.name.lower()]
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"model: there is no GGUF file {str(path)!r}{hint}")
    if importlib.util.find_spec("gguf") is None:
        raise ValueError("model: reading a GGUF file needs the gguf package: pip install memoir-fast[gguf]")
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"model: {str(path)!r} is empty: download it again")
    with open(path, "rb") as file:
        head = file.read(24)
    if head[:4] != b"GGUF":
        raise ValueError(f"model: {str(path)!r} is not a GGUF file: it begins with {head[:4]!r}, not b'GGUF'")
    split = _SPLIT.search(path.name)
    if split and int(split[2]) > 1:
        raise ValueError(
            f"model: {str(path)!r} is part {int(split[1])} of {int(split[2])} of a GGUF file: join the parts first "
            "(llama-gguf-split --merge)"
        )
    if len(head) >= 16 and struct.unpack("<Q", head[8:16])[0] == 0:
        raise ValueError(
            f"model: {str(path)!r} holds no tensors (a vocabulary or an adapter's header); give the model's own file"
        )
    return path


def check_whole(path: Path) -> None:
    """Raise ValueError for a GGUF file that ends before the tensors its header lists, or with a header that is not of
    the format. Takes seconds, to parse the header."""
    from gguf import GGUFReader

    size = path.stat().st_size
    try:
        _check_fields(path)
        ends = [int(tensor.data_offset + tensor.n_bytes) for tensor in GGUFReader(path).tensors]
    except _Foreign as error:
        raise ValueError(
            f"model: {str(path)!r} holds {error} in its header: convert the model again, with another program or another version of it"
        ) from None
    except (ValueError, IndexError, KeyError, OSError):  # numpy finds fewer bytes than a field or a tensor should have
        ends = []
    if not ends or size < max(ends):
        raise ValueError(
            f"model: {str(path)!r} is cut off: it has {size} bytes, and its header lists more; download it again"
        )


class _Foreign(ValueError):
    """What is in the header is there, and is nothing that the format has."""


def _check_fields(path: Path) -> None:
    """Raise ValueError where a field of the header is longer than the file, which the gguf package would follow for
    hours; `_Foreign` where it is of no kind that the package reads.

    Source: the GGUF specification, versions 2 and 3 (little-endian); files of other versions are left to the package.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = 24
        try:
            if struct.unpack_from("<I", data, 4)[0] not in (2, 3):
                return
            for _ in range(struct.unpack_from("<Q", data, 16)[0]):
                place = _behind(data, _TEXT, place)
                place = _behind(data, struct.unpack_from("<I", data, place)[0], place + 4)
        except struct.error:
            raise ValueError(f"{path}: a field ends behind the file") from None


def header_of(path: Path) -> dict[str, Any]:
    """The fields in a GGUF file's header by name, in a fraction of a second and without the gguf package: numbers, texts and short lists of
    numbers; of any other list only its length.

    Raises:
        ValueError: the file is cut off, or its header is not of the format.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found, place = dict[str, Any](), 24
        try:
            if data[:4] != b"GGUF" or struct.unpack_from("<I", data, 4)[0] not in (2, 3):
                raise ValueError("its version is not 2 or 3")
            for _ in range(struct.unpack_from("<Q", data, 16)[0]):
                name, place = _text(data, place), _behind(data, _TEXT, place)
                kind = struct.unpack_from("<I", data, place)[0]
                end = _behind(data, kind, place + 4)
                found[name], place = _value(data, kind, place + 4), end
        except (struct.error, ValueError) as error:
            raise ValueError(
                f"model: {str(path)!r} has a header that cannot be read ({error}): download it again"
            ) from None
    return found


def _text(data: mmap.mmap, place: int) -> str:
    length = struct.unpack_from("<Q", data, place)[0]
    return data[place + 8 : place + 8 + length].decode("utf-8", "replace")


def _value(data: mmap.mmap, kind: int, place: int) -> Any:
    """A field's value; its end was checked by `_behind`."""
    if kind == _TEXT:
        return _text(data, place)
    if kind == _LIST:
        inner, number = struct.unpack_from("<IQ", data, place)
        if inner not in _FORMATS or number > _SHOWN_LIST:
            return number
        return list(struct.unpack_from(f"<{number}{_FORMATS[inner]}", data, place + 12))
    return struct.unpack_from("<" + _FORMATS[kind], data, place)[0]


def _behind(data: mmap.mmap, kind: int, place: int, deep: int = 0) -> int:
    """Where the value at a place ends, `deep` lists around it. Raises as `_check_fields`, or struct.error."""
    if kind == _TEXT:
        end = place + 8 + struct.unpack_from("<Q", data, place)[0]
    elif kind == _LIST:
        if deep == _DEEPEST:
            raise _Foreign(f"lists nested more than {_DEEPEST} deep")
        inner, number = struct.unpack_from("<IQ", data, place)
        end = place + 12
        if inner in (_TEXT, _LIST):
            for _ in range(number):
                end = _behind(data, inner, end, deep + 1)
        elif inner in _SIZES:
            end += number * _SIZES[inner]
        else:
            raise _Foreign(f"a list of values of kind {inner}")
    elif kind in _SIZES:
        end = place + _SIZES[kind]
    else:
        raise _Foreign(f"a value of kind {kind}")
    if end > len(data):
        raise ValueError("a field ends behind the file")
    return end
