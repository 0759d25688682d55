"""The pages of V that a store's snapshots list, each in a file of its own, which is named by the digest of its bytes. So a page that no edit changed
is not written again, and snapshots share its file.

A page of which updates were given up has a second file with the same bytes: the log could not make it again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from ..base import files
from ..base.json_text import parse
from ..errors import brief, quoted
from ..journal.record import digest, digest_of
from ..memory.pages import Pages, zeros
from ..memory.symmetric import used_rows
from . import manifest

_NAME = re.compile(r"page-[0-9a-f]{32}(-copy)?\.safetensors")
_MOST_HEADER = 1 << 12  # bytes of JSON; the library writes about 150
_THREADS = min(4, os.cpu_count() or 1)  # that read pages; a digest takes longer than its bytes take to come
_MOST_PACKED = 64 << 20  # bytes of pages that are packed at the same time, if one is not larger
_LINE = 64  # bytes that torch aligns tensors to


def file_of(page: str, copy: bool = False) -> str:
    """The name of the file, or of its copy, of the page with this digest, hexadecimal."""
    return f"page-{page}{'-copy' if copy else ''}.safetensors"


def is_page(name: str) -> bool:
    """Whether a file of this name holds a page."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class Stored:
    """A page's file.

    Attributes:
        digest: hexadecimal; "" for a page of zeros, which has no file.
        size: bytes.
    """

    digest: str
    size: int

    def is_in(self, path: Path) -> bool:
        """Whether a file of this size is there."""
        return not path.is_symlink() and path.is_file() and path.stat().st_size == self.size


class PageFiles:
    """What is known of the files of an open store's pages: which of them hold what the memory has now."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, Stored]] = {}  # by page: its version when the file held it, and the file
        self._named: dict[int, tuple[int, str]] = {}  # by page: its version when it was named, and the digest
        self._copies = set[str]()  # digests of the pages whose copies were found whole

    def note(self, pages: Pages, stored: dict[int, Stored]) -> None:
        """These files hold the pages as they are."""
        self._known |= {number: (pages.version(number), file) for number, file in stored.items()}

    def known(self, pages: Pages) -> dict[int, Stored]:
        """The files that hold pages as they are."""
        return {
            number: file
            for number, (version, file) in self._known.items()
            if number in pages.held and version == pages.version(number)
        }

    def digest(self, pages: Pages, number: int) -> str | None:
        """The digest of a page as it is, hexadecimal; "" for zeros, None where it has changed since it was last known."""
        if number not in pages.held:
            return ""
        version = pages.version(number)
        named, found = self._named.get(number, (0, ""))
        if named == version:
            return found
        before, file = self._known.get(number, (0, None))
        return file.digest if file is not None and before == version else None

    def name(self, pages: Pages, number: int, page: str) -> None:
        """This is the digest of a page as it is; "" for zeros."""
        self._named[number] = pages.version(number), page

    def write(self, folder: Path, pages: Pages, twice: set[int]) -> dict[int, str]:
        """Write the pages that no file holds as they are; returns the digest of each that is not all zeros.

        Args:
            twice: numbers of the pages that need a copy.

        Raises:
            StoreError: what was written reads back differently. ValueError: a folder stands in a file's place. OSError.
        """
        for number, page in pages.held.items():
            version, known = self._known.get(number, (0, None))
            copies = (False, True) if number in twice else (False,)
            if known and version == pages.version(number) and all(self._holds(folder, known, one) for one in copies):
                continue
            data = packed(page)
            now = Stored(digest(data).hex() if data else "", len(data))
            for one in copies if data else ():
                if version != pages.version(number) or not self._holds(folder, now, one):
                    manifest.write_bytes(folder / file_of(now.digest, one), data)
                    self._copies |= {now.digest} if one else set()
            self.note(pages, {number: now})
        return {number: self._known[number][1].digest for number in pages.held if self._known[number][1].digest}

    def _holds(self, folder: Path, stored: Stored, copy: bool) -> bool:
        """Whether a page's file, or its copy, is there. Opening a store reads only the file, so the copy is read here, once."""
        if not stored.digest:
            return True
        path = folder / file_of(stored.digest, copy)
        if not stored.is_in(path):
            return False
        if copy and stored.digest not in self._copies:
            if digest_of(files.parts(path)).hex() != stored.digest:
                return False
            self._copies.add(stored.digest)
        return True


def packed(page: torch.Tensor) -> bytes:
    """A page's file: the rows that hold anything. Empty for a page of zeros."""
    rows, V = used_rows(page), page.detach().cpu()
    if len(rows) < len(V):
        V = V[rows.long()]
    return save({"V.rows": rows, "V": V.contiguous()}) if len(rows) else b""


def digest_in(data: bytes) -> str:
    """The digest that names the file of what `packed` made, hexadecimal; "" for a page of zeros."""
    return digest(data).hex() if data else ""


def digests_of(pages: Sequence[torch.Tensor]) -> list[str]:
    """The digests of pages, several at a time where they are small: each takes its own size in memory once more."""
    most = _MOST_PACKED // max(1, *(page.nbytes for page in pages))
    with ThreadPoolExecutor(max(1, min(_THREADS, most))) as pool:
        return list(pool.map(lambda page: digest_in(packed(page)), pages))


def unpacked(data: torch.Tensor, page: str, sizes: tuple[int, int]) -> torch.Tensor:
    """The page (D, d) in the bytes of its file. page: its digest. Raises ValueError unless the digest and the tensors in it are as expected."""
    where, raw = f"page {page}", data.numpy()
    if digest(raw.data).hex() != page:
        raise ValueError(f"{where}: its checksum is another one: truncated or damaged")
    length = int.from_bytes(raw[:8].tobytes(), "little")
    behind = _room(len(raw) - 8, length)
    behind[:] = raw[8:]
    return _page(behind, length, where, sizes)


# ---- reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What came of reading a page.

    Attributes:
        page: (D, d), or None where no file holds it.
        stored: its file, if that is whole.
        problems: what is wrong with its file and the copy, as sentences.
    """

    page: torch.Tensor | None
    stored: Stored | None
    problems: tuple[str, ...] = ()


def read_all(folder: Path, pages: dict[int, str], sizes: tuple[int, int]) -> dict[int, Found]:
    """Read the pages with these digests, several at a time. sizes: (D, d). Raises OSError."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(pages, pool.map(lambda page: read(folder, page, sizes), pages.values()), strict=True))


def read(folder: Path, page: str, sizes: tuple[int, int]) -> Found:
    """Read the page with this digest from its file, or from the copy where there is one."""
    problems = list[str]()
    for copy in (False, True):
        path = folder / file_of(page, copy)
        if copy and not path.exists():
            break
        try:
            found, size = read_file(path, page, sizes)
        except ValueError as error:
            problems.append(str(error))
            continue
        return Found(found, None if copy else Stored(page, size), tuple(problems))
    return Found(None, None, tuple(problems))


def bytes_of(folder: Path, page: str) -> bytes:
    """The bytes of the file of the page with this digest, or of its copy. Raises ValueError where neither is whole."""
    for copy in (False, True):
        path = folder / file_of(page, copy)
        if copy and not path.exists():
            break
        data = files.read(path)
        if digest(data).hex() == page:
            return data
    raise ValueError(f"{folder / file_of(page)}: its checksum is not the one in its snapshot, and there is no copy")


def read_file(path: Path, expected: str, sizes: tuple[int, int]) -> tuple[torch.Tensor, int]:
    """A page (D, d) and the size of its file. Raises ValueError unless its size, its digest and its tensors are as expected."""
    most = 4 * sizes[0] * (sizes[1] + 1) + 8 + _MOST_HEADER
    descriptor = files.open_regular(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        if size > most:
            raise ValueError(f"{path}: has {size} bytes, more than the {most} that such a file can have")
        start = bytearray(8)
        files.fill(descriptor, memoryview(start))
        length = int.from_bytes(start, "little")
        data = _room(size - 8, length)
        files.fill(descriptor, data.data)  # a file that has become shorter has another digest too
        # In one piece, as it is read: the threads take turns between two calls, which takes long on a busy machine.
        found = digest(bytes(start), data.data).hex()
    finally:
        os.close(descriptor)
    if found != expected:
        raise ValueError(
            f"{path}: its checksum is not the one in its snapshot: truncated, damaged, or from another store"
        )
    return _page(data, length, path, sizes), size


def _room(size: int, header: int) -> np.ndarray:
    """Room for the bytes behind the header's length, so that V, which is behind the header, lies where a page of all rows can keep it."""
    room = np.empty(max(0, size) + _LINE, np.uint8)
    return room[-(room.ctypes.data + header) % _LINE :][: max(0, size)]


def _page(data: np.ndarray, length: int, path: Path | str, sizes: tuple[int, int]) -> torch.Tensor:
    """The page in the bytes behind the header's length. Raises ValueError unless they hold one of these sizes, and nothing else."""
    D, d = sizes
    if length > min(_MOST_HEADER, len(data)):
        raise ValueError(f"{path}: its header has {length} bytes")
    rows, V, in_place = _tensors(data[:length].tobytes(), data[length:], path, sizes)
    if not (np.isfinite(V.min()) and np.isfinite(V.max())):  # both are NaN where one number is
        raise ValueError(f"{path}: tensor 'V' holds NaN or infinity")
    if rows[0] < 0 or rows[-1] >= D or not (rows[1:] > rows[:-1]).all():
        raise ValueError(f"{path}: tensor 'V.rows' must hold ascending numbers in 0..{D - 1}")
    if in_place and len(rows) == D:
        return torch.from_numpy(V)
    page = zeros(D, d)
    page.numpy()[rows] = V
    return page


def _tensors(
    header: bytes, data: np.ndarray, path: Path | str, sizes: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, bool]:
    """The rows (r,) and V (r, d) in a page's file, no copies; and whether V comes first. Raises ValueError for anything else than these two.

    The library's own reading of the bytes, because that of safetensors copies them twice.
    """
    (D, d), found, parts = sizes, parse(header, str(path)), dict[str, np.ndarray]()
    try:
        found.pop("__metadata__", None)
        count, place = found["V.rows"]["shape"][0], {name: found[name]["data_offsets"][0] for name in ("V", "V.rows")}
        if type(count) is not int or not 0 < count <= D:
            raise ValueError(f"'V.rows' has {quoted(count)} numbers, expected 1 to {D}")
        wanted = {"V": ("F32", [count, d], 4 * count * d, np.float32), "V.rows": ("I32", [count], 4 * count, np.int32)}
        for name, (dtype, shape, size, kind) in wanted.items():
            first, end = found[name]["data_offsets"]
            if (found[name]["dtype"], found[name]["shape"], end - first) != (dtype, shape, size):
                raise ValueError(f"tensor {name!r} is {quoted(found[name])}, expected {dtype} {shape} in {size} bytes")
            parts[name] = data[first:end].view(kind).reshape(shape)
        gapless = place in ({"V": 0, "V.rows": 4 * count * d}, {"V": 4 * count, "V.rows": 0})
        if found.keys() != wanted.keys() or len(data) != 4 * count * (d + 1) or not gapless:
            raise ValueError("it holds more than 'V' and 'V.rows'")
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise ValueError(f"{path}: is not a page's file: {brief(error)}") from None
    return parts["V.rows"], parts["V"], place["V"] == 0
