"""The residual weight in pages. Edits of different pages share no weight, so that however many come, an edit meets only those of its own page."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from .. import ops

if TYPE_CHECKING:
    from .update import Update

_MOST_ROWS = (1 << 31) - 1  # files number rows with 32 bits
_VERSIONS = itertools.count(1)  # of all pages of this process, so that none has another one's


def page_of(edit: int, page_edits: int | None) -> int:
    """The page that an edit's rows are in. page_edits: how many edits share one; 0 or None for all of them."""
    return edit // page_edits if page_edits else 0


class Pages:
    """Pages of (D, d) float32, by number, each of them made of zeros when it is first written to.

    Row `p * D + j` stands for feature j's weights in page p. Each page has a version, which is another one after every change: whoever wrote a
    page to a file sees by it whether the file still holds the page.

    Args:
        in_features: D.
        out_features: d.

    Attributes:
        held: the pages by number, ascending; page 0 is always there.
    """

    def __init__(self, in_features: int, out_features: int):
        self._size, self._width = in_features, out_features
        self.held: dict[int, torch.Tensor] = {0: zeros(in_features, out_features)}
        self._versions = {0: next(_VERSIONS)}
        self._norms: dict[int, float] = {}  # by version

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.held[0].device

    @property
    def whole(self) -> torch.Tensor:
        """((last + 1) * D, d): all rows. With one page that page itself, to be changed in place at once; otherwise a copy."""
        if len(self.held) == 1:
            return self.at(0)
        return torch.cat([self.page(number) for number in range(max(self.held) + 1)])

    def to(self, device: torch.device) -> None:
        """Move them to a device."""
        self.held = {number: page.to(device) for number, page in self.held.items()}

    def version(self, number: int) -> int:
        """The version of a page that is there."""
        return self._versions[number]

    def page(self, number: int) -> torch.Tensor:
        """A page (D, d) to read: zeros where there is none yet."""
        found = self.held.get(number)
        return zeros(self._size, self._width).to(self.device) if found is None else found

    def at(self, number: int) -> torch.Tensor:
        """A page (D, d) to write to at once: the next writer asks again. Raises ValueError for a number that no file could name."""
        if number not in self.held:
            self.take(number, zeros(self._size, self._width))
        self._versions[number] = next(_VERSIONS)
        return self.held[number]

    def take(self, number: int, page: torch.Tensor) -> None:
        """Hold a page (D, d) from now on, in the place of what is there. Raises ValueError as `at`."""
        self.check(number)
        last = next(reversed(self.held))
        sorted_still = number in self.held or number > last
        self.held[number], self._versions[number] = page.to(self.device), next(_VERSIONS)
        if not sorted_still:
            self.held = dict(sorted(self.held.items()))

    def touch(self) -> None:
        """Take every page for changed."""
        self._versions = {number: next(_VERSIONS) for number in self.held}

    def add(self, update: Update, sign: int = 1) -> None:
        """Add an update, which is on their device, or take it back with sign -1. Raises ValueError as `at`."""
        page, rows = self.at(update.page), update.rows
        if update.moves is not None and update.G is not None:
            ops.masked_scatter_(page, rows, update.moves, update.G, sign / update.scale)
        else:
            page.index_add_(0, rows.long(), update.delta(), alpha=sign / update.scale)

    def check(self, number: int) -> None:
        """Raise ValueError for the number of a page whose rows no file could name."""
        if (number + 1) * self._size > _MOST_ROWS:
            raise ValueError(
                f"page {number} of the memory: a memory ends at page {_MOST_ROWS // self._size - 1}; make another memory for the next edits, "
                "or one with a larger page_edits"
            )

    def of_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """(n, d): a copy of rows (n,), ascending or not; zeros where a page is not there yet."""
        numbers = torch.div(rows, self._size, rounding_mode="floor")
        found = torch.empty(len(rows), self._width, device=self.device)
        for number in numbers.unique().tolist():
            here = numbers == number
            page = self.held.get(number)
            found[here] = 0.0 if page is None else page[(rows[here] - number * self._size).long()]
        return found

    def put(self, rows: torch.Tensor, values: torch.Tensor) -> None:
        """Set rows (n,) to values (n, d)."""
        rows, values = rows.long().to(self.device), values.to(self.device)
        numbers = torch.div(rows, self._size, rounding_mode="floor")
        for number in numbers.unique().tolist():
            here = numbers == number
            self.at(number)[rows[here] - number * self._size] = values[here]

    def norm(self, other: Pages | None = None) -> float:
        """The Frobenius norm of all of it, or of its difference to other pages, which may be on another device."""
        if other is None:
            known, self._norms = self._norms, {}
            for number, page in self.held.items():
                version = self._versions[number]
                self._norms[version] = known[version] if version in known else float(page.norm())
            return math.hypot(*self._norms.values())
        norms, empty = [], zeros(1, 1)
        for number in self.held.keys() | other.held.keys():
            page = self.held.get(number, empty) - other.held.get(number, empty).to(self.device)
            norms.append(float(page.norm()))
        return math.hypot(*norms)

    def keep_to(self, last: int) -> None:
        """Forget the pages after `last`."""
        self.held = {number: page for number, page in self.held.items() if number <= last}
        self._versions = {number: version for number, version in self._versions.items() if number <= last}

    def clear(self) -> None:
        """Forget what was written."""
        self.keep_to(0)
        self.at(0).zero_()


def zeros(rows: int, columns: int) -> torch.Tensor:
    """(rows, columns) float32 zeros whose memory is taken when they are first written: an empty memory beside a large model costs nothing,
    and neither does one that a file only claims. torch.zeros writes all of them."""
    count, line = rows * columns, 64  # bytes that torch aligns tensors to
    raw = np.zeros(count + line // 4, np.float32)
    first = -raw.ctypes.data % line // 4
    return torch.from_numpy(raw[first : first + count]).view(rows, columns)
