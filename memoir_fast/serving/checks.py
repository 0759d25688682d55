"""Tables are checked before a process serves them: names, dtypes, every size, and what their numbers point to."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from ..journal.record import DIGEST
from ..memory.pages import page_of
from ..ops.checks import all_finite
from .paging import DIGESTS, digests_in, given_in
from .tables import NAMES, PREFIX

_DTYPES = {
    "V": torch.float32, "background": torch.float32, "permutation": torch.int32, "ids": torch.int64, "signatures": torch.uint8,
    "scale": torch.float64, "threshold": torch.float64, "tags": torch.uint8, "words": torch.uint8, "keys": torch.uint8, "rate": torch.float64,
    "digests": torch.uint8,
}  # fmt: skip


def check_tables(tensors: dict[str, torch.Tensor], section: dict[str, Any], held: Collection[str] = ()) -> None:
    """Raise ValueError, naming the tensor, what it is and what it should be, unless the tables fit an engine of this `memoir` section. held: the
    digests of the pages that need not be given, where the table is one in pages."""
    names = ("digests", *NAMES[1:]) if DIGESTS in tensors else NAMES
    missing = [PREFIX + name for name in names if PREFIX + name not in tensors]
    if missing:
        raise ValueError(f"the memory's tensors lack {', '.join(missing)}: export the store again")
    D, d, n = section["in_features"], section["out_features"], tensors[PREFIX + "ids"].numel()
    by_words = section["router"] == "tokens"
    listed = tensors[PREFIX + names[0]].numel() // (DIGEST if DIGESTS in tensors else D * d)
    pages = max(1, listed) if section["page_edits"] else 1
    shapes: dict[str, tuple[int, ...]] = {
        "V": (pages * D, d), "digests": (pages, DIGEST), "background": (D,), "permutation": (D,), "ids": (n,), "signatures": (n, (D + 7) // 8),
        "scale": (1,), "threshold": (0 if by_words else n,), "rate": (2 if by_words else 0,),
    }  # fmt: skip
    for name in names:
        tensor = tensors[PREFIX + name]
        wanted = shapes.get(name, (tensor.numel(),))
        if tensor.dtype != _DTYPES[name] or (tuple(tensor.shape) != wanted and (n or name != "signatures")):
            raise _wrong(name, f"is {tuple(tensor.shape)} {tensor.dtype}, expected {wanted} {_DTYPES[name]}")
    for name in ("V", "background", "scale"):
        if name in names and not all_finite(tensors[PREFIX + name]):
            raise _wrong(name, "holds NaN or infinity")
    if DIGESTS in tensors:
        _check_pages(tensors, held)
    if not torch.equal(tensors[PREFIX + "permutation"].sort().values, torch.arange(D, dtype=torch.int32)):
        raise _wrong("permutation", f"is no permutation of {D} features")
    _check_edits(tensors, section["top_k"], by_words)
    last = page_of(max(tensors[PREFIX + "ids"].tolist(), default=0), section["page_edits"])
    if last >= pages:  # more may be there, whose edits are gone
        raise _wrong(names[0], f"has {pages} pages, and an edit is in page {last}")


def _check_pages(tensors: dict[str, torch.Tensor], held: Collection[str]) -> None:
    given = given_in(tensors)
    for digest, data in given.items():
        if data.dtype != torch.uint8 or data.dim() != 1:
            raise _wrong(f"page.{digest}", f"is {tuple(data.shape)} {data.dtype}, expected a list of {torch.uint8}")
    for number, digest in enumerate(digests_in(tensors)):
        if digest and digest not in held and digest not in given:
            raise ValueError(
                f"the memory's page {number} ({digest}) was not handed over, and is none that this process holds: refresh again, or start the "
                "server anew"
            )


def _check_edits(tensors: dict[str, torch.Tensor], top_k: int, by_words: bool) -> None:
    ids = tensors[PREFIX + "ids"].tolist()
    if len(set(ids)) != len(ids) or min(ids, default=0) < 0:
        raise _wrong("ids", "names an edit twice, or by a negative number")
    ones = np.bitwise_count(tensors[PREFIX + "signatures"].numpy()).sum(-1) if ids else np.zeros(0)
    if (ones != top_k).any():
        raise _wrong("signatures", f"has a mask of {int(ones[ones != top_k][0])} features, expected {top_k}")
    known = {str(edit) for edit in ids}
    tags = _mapping(tensors, "tags")
    if not tags.keys() <= known or not all(isinstance(some, list) and all(isinstance(t, str) for t in some) for some in tags.values()):  # fmt: skip
        raise _wrong("tags", "is no mapping from the stored edits' ids to lists of texts")
    if by_words and _mapping(tensors, "keys").keys() != known:
        raise _wrong("keys", "does not name the stored edits")


def _mapping(tensors: dict[str, torch.Tensor], name: str) -> dict[str, Any]:
    try:
        found = json.loads(bytes(tensors[PREFIX + name].numpy()).decode())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _wrong(name, "is no JSON object")
    return found


def _wrong(name: str, what: str) -> ValueError:
    return ValueError(f"the memory's tensor {PREFIX}{name} {what}: export the store again and start the server anew")
