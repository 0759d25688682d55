"""The memory in a file: a store's snapshot, and the tensors of a memory folder. V and C are written without their rows of zeros, and C, which
is symmetric, as its upper triangle, or in its small form (see `low_rank`). A snapshot lists the pages of V, which have files of their own (see `page_files`); snapshots of earlier versions
hold V themselves, and those of versions up to 4 hold V and C whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..editing.update_rule import rule_of
from ..journal.record import DIGEST
from ..memory.drift import VECTORS
from ..memory.low_rank import SHAPES, LowRank
from ..memory.pages import page_of
from ..memory.symmetric import Symmetric, used_rows
from . import manifest, page_files
from .manifest import MOST_BASE, SUMS, Manifest, Shapes, Snapshot
from .page_files import Found, Stored
from .remaking import pages_of_log

if TYPE_CHECKING:
    from ..journal.record import Entry
    from ..memory.residual import ResidualMemory

ROWS, COLUMNS = "V.rows", "C.rows"  # the tensors that say which rows of V, of all its pages, and of C are there
FORM = "reads."  # stands before the names of the tensors of a C in its small form
PAGE = "page"  # the tensor with the number of the newest page, which C is of
NUMBERS, DIGESTS = "pages", "pages.digests"  # the tensors that list the pages with files of their own


def tensors_of(memory: ResidualMemory, pages: dict[int, str] | None = None) -> dict[str, torch.Tensor]:
    """What a file holds of a memory, on the CPU. pages: the digests of the files that hold its pages; None if this file is to hold them."""
    if pages is None:
        tensors = _rows_of(memory)
    else:
        digests = np.frombuffer(bytes.fromhex("".join(pages.values())), np.uint8).reshape(-1, DIGEST)
        tensors = {NUMBERS: torch.tensor([*pages], dtype=torch.int32), DIGESTS: torch.from_numpy(digests.copy())}
    tensors |= {
        PAGE: torch.tensor([memory.page], dtype=torch.int64),
        "ids": torch.tensor(memory.index.ids, dtype=torch.int64),
        "signatures": torch.from_numpy(memory.index.signatures()),
    }
    if isinstance(memory.reads, LowRank):
        tensors |= {FORM + name: tensor for name, tensor in memory.reads.tensors().items()}
    elif memory.reads is not None:
        tensors["C"], tensors[COLUMNS] = memory.reads.packed()
        if memory.drift is not None:
            tensors[SUMS] = memory.drift.sums
    return tensors


def _rows_of(memory: ResidualMemory) -> dict[str, torch.Tensor]:
    """The rows of V that hold anything, of all pages."""
    D = memory.in_features
    used = {number: used_rows(page) for number, page in memory.pages.held.items()}
    V = [page[used[number].long().to(page.device)].detach().cpu() for number, page in memory.pages.held.items()]
    return {ROWS: torch.cat([rows + number * D for number, rows in used.items()]), "V": torch.cat(V)}


def shapes_of(tensors: dict[str, torch.Tensor], D: int, d: int, tracked: bool) -> Shapes:
    """What a file must hold beside the numbers of rows that it says it has. tracked: with C."""
    width = (D + 7) // 8
    shapes: Shapes = {
        "V": ((D, d), torch.float32),
        "ids": ((None,), torch.int64),
        "signatures": ((None, width), torch.uint8),
    }
    small = tracked and any(name.startswith(FORM) for name in tensors)
    if small:
        shapes |= {FORM + name: shape for name, shape in SHAPES.items()}
    elif tracked:
        shapes["C"] = ((D, D), torch.float32)
        shapes[SUMS] = ((D, VECTORS), torch.float64)
    if ROWS in tensors or COLUMNS in tensors:
        rows, columns = (tensors[name].numel() if name in tensors else 0 for name in (ROWS, COLUMNS))
        shapes |= {ROWS: ((rows,), torch.int32), "V": ((rows, d), torch.float32)}
        if tracked and not small:
            shapes |= {COLUMNS: ((columns,), torch.int32), "C": ((columns * (columns + 1) // 2,), torch.float32)}
    if PAGE in tensors:
        shapes[PAGE] = ((1,), torch.int64)
    if NUMBERS in tensors:
        shapes |= {NUMBERS: ((None,), torch.int32), DIGESTS: ((tensors[NUMBERS].numel(), DIGEST), torch.uint8)}
        del shapes["V"]
        shapes.pop(ROWS, None)
    return shapes


def check_rows(tensors: dict[str, torch.Tensor], path: Path, sizes: tuple[int, int], tracked: bool, pages: int) -> None:
    """Raise ValueError unless C's parts fit together, and the rows and the page that a file names are within those of (D, d) and this many pages, ascending, and there is room for
    the pages that they are in; their shapes and dtypes are as `shapes_of` says."""
    D = sizes[0]
    for name, most in ((ROWS, D * pages), (COLUMNS, D), (PAGE, pages), (NUMBERS, pages)):
        rows = tensors.get(name)
        if rows is not None and len(rows):
            if int(rows[0]) < 0 or int(rows[-1]) >= most or not bool((rows[1:] > rows[:-1]).all()):
                raise ValueError(f"{path}: tensor {name!r} must hold ascending numbers in 0..{most - 1}")
    if tracked and "C" not in tensors:
        try:
            _reads_of(tensors, D)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    named: torch.Tensor | tuple[int] = (0,)
    if NUMBERS in tensors:
        named = tensors[NUMBERS]
    elif ROWS in tensors:
        named = tensors[ROWS].div(D, rounding_mode="floor").unique()
    manifest.check_fits(*sizes, tracked, len(named))


def read(path: Path, digest: str, sizes: tuple[int, int], tracked: bool, pages: int) -> dict[str, torch.Tensor]:
    """A snapshot's tensors. sizes: (D, d); pages: how many the memory can have. Raises ValueError unless its size, its digest and its tensors
    are as expected."""
    D, d = sizes
    most = MOST_BASE + 4 * D * (d + 1) * pages + (4 * D * D if tracked else 0)
    found = manifest.read_tensors(path, digest, lambda tensors: shapes_of(tensors, D, d, tracked), most)
    check_rows(found, path, sizes, tracked, pages)
    return found


def listed(tensors: dict[str, torch.Tensor]) -> dict[int, str]:
    """The digests of the pages that a snapshot's checked tensors list, by page."""
    if NUMBERS not in tensors:
        return {}
    return dict(zip(tensors[NUMBERS].tolist(), (row.tobytes().hex() for row in tensors[DIGESTS].numpy()), strict=True))


def pages_of(path: Path, snapshot: Snapshot, kept: Manifest) -> dict[int, str]:
    """The digests of the pages that a snapshot lists, by page.

    Args:
        path: its file. kept: the manifest that names it.

    Raises:
        ValueError: as `read`.
    """
    D, d, _ = kept.sizes
    pages = page_of(snapshot.seq, kept.config.page_edits) + 1
    return listed(read(path, snapshot.digest, (D, d), rule_of(kept.config).tracks, pages))


def page_names(pages: Iterable[str]) -> list[str]:
    """The names of the files that may hold these pages."""
    return [page_files.file_of(page, copy) for page in dict.fromkeys(pages) for copy in (False, True)]


def fill(
    memory: ResidualMemory, tensors: dict[str, torch.Tensor], scale: float, pages: dict[int, torch.Tensor] | None = None
) -> None:
    """Fill an empty memory from a file's checked tensors, and from the pages that it lists. Raises ValueError as `ResidualMemory.fill`."""
    ids, signatures = tensors["ids"].tolist(), tensors["signatures"].numpy()
    page, V = int(tensors[PAGE]) if PAGE in tensors else 0, tensors["V"] if pages is None else pages
    C = _reads_of(tensors, memory.in_features) if memory.tracks else None
    memory.fill(V, scale, ids, signatures, C, tensors.get(SUMS), tensors.get(ROWS), page)


def _reads_of(tensors: dict[str, torch.Tensor], D: int) -> Symmetric | LowRank:
    """C, in the form in which a file holds it. Raises ValueError where its tensors do not fit together."""
    if "C" not in tensors:
        return LowRank.of(D, {name: tensors[FORM + name] for name in SHAPES})
    if COLUMNS not in tensors:  # earlier versions kept no more than nearly symmetric ones
        return Symmetric.of(tensors["C"])
    C = Symmetric(D)
    C.unpack(tensors["C"], tensors[COLUMNS])
    return C


@dataclass
class Restored:
    """What came of restoring a memory.

    Attributes:
        seq: the number of the snapshot's record; 0 if there is no good snapshot.
        stored: the files that hold pages as they were then.
        problems: a sentence about each snapshot that cannot be used.
        repaired: about each page that came from elsewhere than its file.
    """

    seq: int = 0
    stored: dict[int, Stored] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)


def restore(folder: Path, kept: Manifest, memory: ResidualMemory, history: list[Entry]) -> Restored:
    """Fill an empty memory from the newest good snapshot.

    Args:
        folder: the store's.
        kept: its manifest.
        memory: the memory to fill.
        history: all records, from which a page is made again whose file is damaged.
    """
    made = Restored()
    for snapshot in kept.snapshots:
        try:
            tensors, found = _opened(folder, snapshot, memory)
            repaired = list[str]()
            pages = None if found is None else _pages(found, memory, history[: snapshot.seq], repaired)
            fill(memory, tensors, float(snapshot.scale), pages)
        except ValueError as error:
            made.problems.append(str(error))
            continue
        stored = {number: page.stored for number, page in (found or {}).items() if page.stored is not None}
        return Restored(snapshot.seq, stored, made.problems, repaired)
    return made


def _opened(
    folder: Path, snapshot: Snapshot, memory: ResidualMemory
) -> tuple[dict[str, torch.Tensor], dict[int, Found] | None]:
    """A snapshot's tensors, and the pages that it lists; None where it holds V itself. memory: only its settings are used. Raises as `read`."""
    sizes, tracked = (memory.in_features, memory.out_features), memory.tracks
    pages = memory.page_of(snapshot.seq) + 1  # each edit has a record, and ids count edits
    tensors = read(folder / snapshot.file, snapshot.digest, sizes, tracked, pages)
    return tensors, page_files.read_all(folder, listed(tensors), sizes) if NUMBERS in tensors else None


def _pages(
    found: dict[int, Found], memory: ResidualMemory, history: list[Entry], repaired: list[str]
) -> dict[int, torch.Tensor]:
    """A snapshot's pages: what was found in their files, or their copies, or else made again from the records up to the snapshot's. Raises
    ValueError where neither gives a page."""
    pages = {number: one.page for number, one in found.items() if one.page is not None}
    lost = [(number, "; ".join(one.problems)) for number, one in found.items() if one.page is None]
    repaired += [
        f"{one.problems[0]}; its copy was read" for one in found.values() if one.page is not None and one.problems
    ]
    if lost:
        try:
            pages |= pages_of_log(history, {number for number, _ in lost}, memory)
        except ValueError as error:
            more = f", and {len(lost) - 1} more pages are damaged" if lost[1:] else ""
            raise ValueError(f"{lost[0][1]}{more}; nor can the log make it again ({error})") from None
        repaired += [f"{problem}; page {number} was made again from the log" for number, problem in lost]
    return pages
