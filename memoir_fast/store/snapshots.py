"""The memory in a file: a store's snapshot, and the tensors of a memory folder. V and C are written without their rows of zeros, and C, which
is symmetric, as its upper triangle. Files of earlier versions hold both whole, and one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..memory.drift import VECTORS
from ..memory.symmetric import used_rows
from . import manifest
from .manifest import MOST_BASE, SUMS, Manifest, Shapes

if TYPE_CHECKING:
    from ..memory.residual import ResidualMemory

ROWS, COLUMNS = "V.rows", "C.rows"  # the tensors that say which rows of V, of all its pages, and of C are there
PAGE = "page"  # the tensor with the number of the newest page, which C is of


def tensors_of(memory: ResidualMemory) -> dict[str, torch.Tensor]:
    """What a file holds of a memory, on the CPU."""
    D = memory.in_features
    used = {number: used_rows(page) for number, page in memory.pages.held.items()}
    V = [page[used[number].long().to(page.device)].detach().cpu() for number, page in memory.pages.held.items()]
    tensors = {
        ROWS: torch.cat([rows + number * D for number, rows in used.items()]),
        "V": torch.cat(V),
        PAGE: torch.tensor([memory.page], dtype=torch.int64),
        "ids": torch.tensor(memory.index.ids, dtype=torch.int64),
        "signatures": torch.from_numpy(memory.index.signatures()),
    }
    if memory.reads is not None:
        tensors["C"], tensors[COLUMNS] = memory.reads.packed()
        if memory.drift is not None:
            tensors[SUMS] = memory.drift.sums
    return tensors


def shapes_of(tensors: dict[str, torch.Tensor], D: int, d: int, tracked: bool) -> Shapes:
    """What a file must hold beside the numbers of rows that it says it has. tracked: with C."""
    width = (D + 7) // 8
    shapes: Shapes = {
        "V": ((D, d), torch.float32),
        "ids": ((None,), torch.int64),
        "signatures": ((None, width), torch.uint8),
    }
    if tracked:
        shapes["C"] = ((D, D), torch.float32)
        shapes[SUMS] = ((D, VECTORS), torch.float64)
    if ROWS in tensors or COLUMNS in tensors:
        rows, columns = (tensors[name].numel() if name in tensors else 0 for name in (ROWS, COLUMNS))
        shapes |= {ROWS: ((rows,), torch.int32), "V": ((rows, d), torch.float32)}
        if tracked:
            shapes |= {COLUMNS: ((columns,), torch.int32), "C": ((columns * (columns + 1) // 2,), torch.float32)}
    if PAGE in tensors:
        shapes[PAGE] = ((1,), torch.int64)
    return shapes


def check_rows(tensors: dict[str, torch.Tensor], path: Path, sizes: tuple[int, int], tracked: bool, pages: int) -> None:
    """Raise ValueError unless the rows and the page that a file names are within those of (D, d) and this many pages, ascending, and there is room for
    the pages that they are in; their shapes and dtypes are as `shapes_of` says."""
    D = sizes[0]
    for name, most in ((ROWS, D * pages), (COLUMNS, D), (PAGE, pages)):
        rows = tensors.get(name)
        if rows is not None and len(rows):
            if int(rows[0]) < 0 or int(rows[-1]) >= most or not bool((rows[1:] > rows[:-1]).all()):
                raise ValueError(f"{path}: tensor {name!r} must hold ascending numbers in 0..{most - 1}")
    named = tensors[ROWS].div(D, rounding_mode="floor").unique() if ROWS in tensors else (0,)
    manifest.check_fits(*sizes, tracked, len(named))


def read(path: Path, digest: str, sizes: tuple[int, int], tracked: bool, pages: int) -> dict[str, torch.Tensor]:
    """A snapshot's tensors. sizes: (D, d); pages: how many the memory can have. Raises ValueError unless its size, its digest and its tensors
    are as expected."""
    D, d = sizes
    most = MOST_BASE + 4 * D * (d + 1) * pages + (4 * D * D if tracked else 0)
    found = manifest.read_tensors(path, digest, lambda tensors: shapes_of(tensors, D, d, tracked), most)
    check_rows(found, path, sizes, tracked, pages)
    return found


def fill(memory: ResidualMemory, tensors: dict[str, torch.Tensor], scale: float) -> None:
    """Fill an empty memory from a file's checked tensors. Raises ValueError as `ResidualMemory.fill`."""
    ids, signatures = tensors["ids"].tolist(), tensors["signatures"].numpy()
    page = int(tensors[PAGE]) if PAGE in tensors else 0
    memory.fill(tensors["V"], scale, ids, signatures, tensors.get("C"), tensors.get(SUMS), tensors.get(ROWS), tensors.get(COLUMNS), page)  # fmt: skip


def restore(folder: Path, kept: Manifest, memory: ResidualMemory, problems: list[str]) -> int:
    """Fill an empty memory from the newest good snapshot.

    Args:
        folder: the store's.
        kept: its manifest.
        memory: the memory to fill.
        problems: gets a sentence about each snapshot that cannot be used.

    Returns:
        the number of the snapshot's record; 0 if there is no good snapshot.
    """
    sizes, tracked = (memory.in_features, memory.out_features), memory.reads is not None
    for snapshot in kept.snapshots:
        try:
            pages = memory.page_of(snapshot.seq) + 1  # each edit has a record, and ids count edits
            fill(memory, read(folder / snapshot.file, snapshot.digest, sizes, tracked, pages), float(snapshot.scale))
        except ValueError as error:
            problems.append(str(error))
            continue
        return snapshot.seq
    return 0
