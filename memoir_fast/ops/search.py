"""The engines that look up binary codes: FAISS's binary index (on a GPU where torch uses one and FAISS is built for it),
the extension's scan and a direct comparison; and FAISS's files.

The number of codes and what is installed decide which one is used; `engines` describes it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import cpu
from .pair_features import comparer

# Up to this many stored wordings, a direct comparison is as fast as an index.
DIRECT = 4096
# Up to this many signatures, each is compared in full; beyond, candidates are found by a slice of the bits.
EXHAUSTIVE = 1 << 16
# FAISS would set 1.5 GB of a GPU's memory aside for its own work; one query among a million codes takes a few MB of it.
_GPU_WORK = 64 << 20  # bytes
# How FAISS begins a file of an IndexBinaryFlat: its kind, bits and bytes of a code, codes, whether it is trained, the metric, bytes of codes.
_MAGIC, _FLAT = b"IBxF", struct.Struct("<4siiq?iQ")
_INSTALL = "pip install memoir-fast[cpu] (or memoir-fast[gpu] on a CUDA machine)"


def faiss(wanted_for: str) -> Any:
    """The FAISS library. Raises ImportError if it is missing; wanted_for: what it is needed for, for the message."""
    try:
        return importlib.import_module("faiss")
    except ImportError:
        raise ImportError(f"{wanted_for} needs FAISS: {_INSTALL}") from None


@contextlib.contextmanager
def one_thread(library: Any) -> Iterator[None]:
    """Let FAISS use only the calling thread for a while.

    FAISS divides queries among its OpenMP workers. With a single query the others have nothing to do, but they are
    woken and wait on the cores that torch's workers need; a search of 0.4 ms was seen to take 48 ms (see
    benchmarks/speed/lookup.py).
    """
    before = library.omp_get_max_threads()
    library.omp_set_num_threads(1)
    try:
        yield
    finally:
        library.omp_set_num_threads(before)


def engines() -> dict[str, str]:
    """What looks up candidates here, in words, for each value of the setting `router`: "tokens" and "mask"."""
    there = importlib.util.find_spec("faiss") is not None
    name = f"FAISS {faiss('').__version__}" if there else ""
    flat = f"{name} {_flat_kind()}" if there else f"nothing (FAISS is not installed: {_INSTALL})"
    words = f"posting lists of words; for word codes, a direct comparison up to {DIRECT:,} wordings, beyond that {flat}; verification by {comparer()}"
    if cpu.available():
        scan = f"the extension's scan ({cpu.level()}), of whole masks up to {EXHAUSTIVE:,} edits, beyond that by slices"
    else:
        scan = (
            f"{name} knn_hamming (the extension is not built)"
            if there
            else f"nothing (neither extension nor FAISS: {_INSTALL})"
        )
    return {"tokens": words, "mask": scan}


def _flat_kind() -> str:
    if gpus(faiss("")):
        return "GpuIndexBinaryFlat once torch uses a GPU, IndexBinaryFlat before"
    return "IndexBinaryFlat"


def gpus(library: Any) -> int:
    """How many GPUs this FAISS can search on: 0 for a build for CPUs."""
    return library.get_num_gpus() if hasattr(library, "GpuIndexBinaryFlat") else 0


def placed(index: Any) -> Any:
    """A flat index where it is searched: a copy on torch's current GPU if torch uses one and FAISS can, otherwise itself.

    On a GPU, wordings at equal distances may come in another order than on a CPU.
    """
    library = faiss("the look-up")
    if not (torch.cuda.is_initialized() and gpus(library)):
        return index
    resources = library.StandardGpuResources()
    resources.setTempMemory(_GPU_WORK)
    config = library.GpuIndexBinaryFlatConfig()
    config.device = torch.cuda.current_device()
    return library.GpuIndexBinaryFlat(resources, index, config)


# ---- files -------------------------------------------------------------------------------------------------------


def flat_index(codes: np.ndarray) -> Any:
    """A FAISS `IndexBinaryFlat` of codes (n, w) uint8. Raises ImportError without FAISS."""
    index = faiss(f"looking up among more than {DIRECT:,} stored wordings").IndexBinaryFlat(8 * codes.shape[1])
    index.add(np.ascontiguousarray(codes))
    return index


def codes_of(index: Any) -> np.ndarray:
    """(n, w) uint8: the codes in a flat index, by row."""
    return faiss("a FAISS index").vector_to_array(index.xb).reshape(index.ntotal, index.d // 8)


def write_flat(path: str | Path, index: Any) -> None:
    """Write a flat index for `read_flat` or `faiss.read_index_binary`, completely or not at all.

    Raises:
        OSError: the file cannot be written.
        ImportError: FAISS is missing.
    """
    path = Path(path)
    aside = path.with_name(path.name + ".part")
    try:
        faiss("writing a FAISS index").write_index_binary(index, str(aside))
        os.replace(aside, path)
    except RuntimeError as error:
        raise OSError(f"{path}: cannot be written ({_reason(error)})") from None
    finally:
        aside.unlink(missing_ok=True)


def read_flat(path: str | Path, width: int) -> Any:
    """The `IndexBinaryFlat` in a file.

    Args:
        path: the file.
        width: bytes per code.

    Raises:
        ValueError: there is no such file, it is not a flat binary index of FAISS, or its codes are not `width` bytes
            wide.
        ImportError: FAISS is missing.
    """
    library = faiss("reading a FAISS index")
    if not Path(path).is_file():
        raise ValueError(f"path: there is no file {str(path)!r}")
    _check_sizes(Path(path))
    try:
        index = library.read_index_binary(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path}: not a binary index of FAISS ({_reason(error)})") from None
    if index.d != 8 * width:
        raise ValueError(f"{path}: its codes have {index.d} bits, {8 * width} are needed: it belongs to another model")
    return index


def _check_sizes(path: Path) -> None:
    """Raise ValueError unless a file begins as a flat index does, with room for the codes that it tells of: FAISS makes room for what a
    header says, and reads many other kinds."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(_FLAT.size)
    if head[:4] != _MAGIC:
        raise ValueError(
            f"{path}: not a binary index of FAISS that is an IndexBinaryFlat: it begins with {head[:4]!r}, not {_MAGIC!r}"
        )
    _, bits, width, codes, _, _, stored = _FLAT.unpack(head.ljust(_FLAT.size, b"\0"))
    if bits != 8 * width or codes * width != stored or size != _FLAT.size + stored:
        raise ValueError(
            f"{path}: not a binary index of FAISS that is whole: its header tells of {codes} codes of {bits} bits, and it has {size} bytes"
        )


def _reason(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1]
