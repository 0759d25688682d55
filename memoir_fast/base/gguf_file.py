"""Finds what is wrong with a GGUF file from its header, before anything is converted."""

from __future__ import annotations

import importlib.util
import re
import struct
from pathlib import Path

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
    """Raise ValueError for a GGUF file that ends before the tensors its header lists. Takes seconds, to parse the
    header."""
    from gguf import GGUFReader

    size = path.stat().st_size
    try:
        ends = [int(tensor.data_offset + tensor.n_bytes) for tensor in GGUFReader(path).tensors]
    except (ValueError, IndexError, KeyError, OSError):  # numpy finds fewer bytes than a field or a tensor should have
        ends = []
    if not ends or size < max(ends):
        raise ValueError(
            f"model: {str(path)!r} is cut off: it has {size} bytes, and its header lists more; download it again"
        )
