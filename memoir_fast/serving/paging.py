"""A table in pages that are known by their digests, so that a refresh hands over only those that the workers do not hold.

A digest is that of the bytes of a page's file in a store (`store.page_files`). A number says nothing of what a page holds: a store that was put back,
or has taken another one's place, has other pages under the same numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from ..journal.record import DIGEST
from ..memory.pages import zeros
from ..ops.checks import all_finite
from ..store import Store
from ..store.page_files import digest_in, digests_of, packed, unpacked
from .tables import PREFIX

DIGESTS = PREFIX + "digests"  # (P, 16) uint8: row p is the digest of page p, or zeros for a page of zeros
_GIVEN = PREFIX + "page."  # and a digest: the bytes of that page's file


def pages_of(store: Store, held: Collection[str]) -> dict[str, torch.Tensor]:
    """The pages of a store, in the place of a table's `memoir.V`: the digests of all, and the pages that are not in `held` (digests, hexadecimal).

    Raises:
        ValueError: one of them holds NaN or infinity.
    """
    pages, files, names, found = store.memory.pages, store.page_files, list[str](), dict[str, torch.Tensor]()
    for number in range(max(pages.held) + 1):
        name = files.digest(pages, number)
        if name is None or (name and name not in held and _GIVEN + name not in found):
            if not all_finite(pages.held[number]):
                raise ValueError(f"the memory's page {number} holds NaN or infinity: put the store back from a copy")
            data = packed(pages.held[number])
            name = digest_in(data)  # another one than that of its file, if another version of safetensors wrote that
            files.name(pages, number, name)
            if name and name not in held:
                found[_GIVEN + name] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        names.append(name)
    rows = b"".join(bytes.fromhex(name or "00" * DIGEST) for name in names)
    return {DIGESTS: torch.frombuffer(bytearray(rows), dtype=torch.uint8).view(-1, DIGEST), **found}


def digests_in(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The digests that a table in pages names, hexadecimal, by page; "" for a page of zeros."""
    return [row.tobytes().hex() if row.any() else "" for row in tensors[DIGESTS].numpy()]


def given_in(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The pages that come with a table, as the bytes of their files, by digest."""
    return {name.removeprefix(_GIVEN): data for name, data in tensors.items() if name.startswith(_GIVEN)}


def pages_in(
    tensors: Mapping[str, torch.Tensor],
    sizes: tuple[int, int],
    columns: slice,
    device: torch.device | str,
    held: Mapping[str, torch.Tensor],
) -> tuple[list[str], dict[str, torch.Tensor]]:
    """The pages of a checked table.

    Args:
        tensors: with `memoir.V`, or in pages; sizes: (D, d).
        columns: the input features that this process holds; device: where the pages are to lie.
        held: what this process has of other tables: (columns, d) by digest. These are shared, not copied.

    Returns:
        the digests by page, and the pages by digest.

    Raises:
        ValueError: a page that is given is not the one of its digest.
    """
    D, d = sizes
    whole: dict[str, torch.Tensor] = {}
    if DIGESTS in tensors:
        names = digests_in(tensors)
    else:
        pages = tensors[PREFIX + "V"].split(D)
        names = digests_of(pages)
        whole = dict(zip(names, pages, strict=True))
    found: dict[str, torch.Tensor] = {}
    for name in dict.fromkeys(names):
        if name in held:
            found[name] = held[name]
        elif not name:
            found[name] = zeros(columns.stop - columns.start, d).to(device)
        else:
            page = whole[name] if name in whole else _given(tensors, name, sizes)
            # A copy, since a loader may hand out memory that it maps or uses again.
            found[name] = page[columns].to(device, copy=True)
    return names, found


def _given(tensors: Mapping[str, torch.Tensor], name: str, sizes: tuple[int, int]) -> torch.Tensor:
    try:
        return unpacked(tensors[_GIVEN + name], name, sizes)
    except ValueError as error:
        raise ValueError(f"the memory's {error}; refresh again") from None
