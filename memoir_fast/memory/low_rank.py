"""C in a small form: its largest directions, and the diagonal of all the rest. At the size of a large model half of a symmetric matrix is most of a
memory; this is a fifteenth of it, and after a thousand edits no loss stands out from what seeds differ by (`benchmarks.experiments.forms`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ..defaults import rank_of
from .symmetric import mirror_


@dataclass(frozen=True)
class _Part:
    """`sign * A^T A` in the rows and columns `rows` (k,) int64, which ascend. features: A (n, k)."""

    rows: torch.Tensor
    features: torch.Tensor
    sign: int

    def spread(self, size: int) -> torch.Tensor:
        """A (n, size), zeros where it has no feature."""
        return self.features.new_zeros(len(self.features), size).index_copy_(1, self.rows, self.features)

    def undoes(self, other: _Part) -> bool:
        """Whether the two add up to nothing."""
        return (
            self.sign == -other.sign
            and torch.equal(self.rows, other.rows)
            and torch.equal(self.features, other.features)
        )

    def to(self, device: torch.device) -> _Part:
        """The same on a device."""
        return replace(self, rows=self.rows.to(device), features=self.features.to(device))


class LowRank:
    """A symmetric matrix (D, D) float32, zeros at first: `F^T F + diag(e)`, and what came since these were made, which is kept as it came until there
    are more rows of it than of F. Then the directions of both together are sought anew, and the largest of them kept.

    Its diagonal is always that of the sum of all that was added and taken back, but for rounding. No tensor is changed in place, so a copy takes
    no memory.

    Args:
        size: D, of which `rank_of` keeps some directions.

    Attributes:
        size: D. rank: the most directions that are kept.
        worn: the share of the diagonal's sum that was taken back again since the matrix was begun, in [0, 1): of what is taken back, the directions
            hold a part only.

    Source: this library's; the directions are sought as by frequent directions (Liberty, 2013).
    """

    def __init__(self, size: int):
        self.size, self.rank = size, rank_of(size)
        self.clear()

    def clear(self) -> None:
        """Make it zeros."""
        self._take(torch.zeros(0, self.size), torch.zeros(self.size), (), 0.0)

    def _take(self, directions: torch.Tensor, rest: torch.Tensor, parts: tuple[_Part, ...], gone: float) -> None:
        """F (r, D), e (D,), of which a few may be negative; what came since; and the sum of the diagonals of what was taken back."""
        self._directions, self._rest, self._parts, self._gone = directions, rest, parts, gone

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self._rest.device

    @property
    def worn(self) -> float:
        """See the class."""
        return self._gone / max(float(self.diagonal().sum()) + self._gone, 1e-30)

    def to(self, device: torch.device) -> LowRank:
        """Move it to a device and return it."""
        if self.device != device:
            parts = tuple(part.to(device) for part in self._parts)
            self._take(self._directions.to(device), self._rest.to(device), parts, self._gone)
        return self

    def clone(self) -> LowRank:
        """A copy of its own."""
        made = LowRank(self.size)
        made._take(self._directions, self._rest, self._parts, self._gone)
        return made

    # ---- what it holds -------------------------------------------------------------------------------------------

    def within(self, rows: torch.Tensor) -> torch.Tensor:
        """(k, k): the rows and columns `rows` (k,), which ascend."""
        rows = rows.long()
        some = self._directions[:, rows]
        found = mirror_(some.T @ some)
        found.diagonal().add_(self._rest[rows].clamp(min=0))
        for part in self._parts:
            places = torch.searchsorted(rows, part.rows).clamp_(max=len(rows) - 1)
            here = torch.nonzero(rows[places] == part.rows).view(-1)
            features, places = part.features[:, here], places[here]
            found[places[:, None], places] += mirror_(part.sign * (features.T @ features))
        return found

    def whole(self) -> torch.Tensor:
        """(D, D): all of it."""
        return self.within(torch.arange(self.size, device=self.device))

    def diagonal(self) -> torch.Tensor:
        """(D,)."""
        found = self._directions.square().sum(0) + self._rest
        for part in self._parts:
            found = found.index_add(0, part.rows, part.features.square().sum(0), alpha=part.sign)
        return found

    # ---- changes -------------------------------------------------------------------------------------------------

    def add(self, rows: torch.Tensor, features: torch.Tensor, sign: int = 1) -> None:
        """Add `sign * A^T A` to the rows and columns `rows` (k,), which ascend. features: A (n, k)."""
        new = _Part(rows.long(), features, sign)
        for part in reversed(self._parts):
            if new.undoes(part):
                self._parts = tuple(kept for kept in self._parts if kept is not part)
                self._gone += float(features.square().sum()) * (-1 if sign > 0 else 0)
                return
        self._gone += float(features.square().sum()) * (sign < 0)
        self._parts = (*self._parts, new)
        if sum(len(part.features) for part in self._parts) > self.rank:
            self._fold()

    def _fold(self) -> None:
        """Seek the largest directions of all that is there, and take the diagonal of the rest."""
        rows = [self._directions, *(part.spread(self.size) for part in self._parts)]
        signs = torch.cat([torch.full((len(one),), float(sign), device=self.device)
                           for one, sign in zip(rows, (1, *(part.sign for part in self._parts)), strict=True)])  # fmt: skip
        W = torch.cat(rows)
        Q, R = torch.linalg.qr(W.T)
        small = (R * signs).double() @ R.double().T
        values, vectors = torch.linalg.eigh(small)
        values, vectors = values[-self.rank :], vectors[:, -self.rank :]
        large = values > 0
        scaled = (vectors[:, large] * values[large].sqrt()).float()
        directions = (Q @ scaled).T.contiguous()
        rest = self._rest + signs @ W.square() - directions.square().sum(0)
        self._take(directions, rest, (), self._gone)

    # ---- in files ------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a file holds, on the CPU: "directions" F (r, D), "rest" e (D,), "gone" (1,) float64, and of the p parts that came since "rows" (p, k) int32,
        "features" (n, k) with those of all parts, and "counts" (p,) int32, how many of them each has, negative where it was taken back."""
        parts, none = self._parts, torch.zeros(0, 0)
        found = {
            "directions": self._directions,
            "rest": self._rest,
            "gone": torch.tensor([self._gone], dtype=torch.float64),
            "rows": torch.stack([part.rows for part in parts]) if parts else none,
            "features": torch.cat([part.features for part in parts]) if parts else none,
            "counts": torch.tensor([part.sign * len(part.features) for part in parts]),
        }
        found |= {name: found[name].to(torch.int32) for name in ("rows", "counts")}
        return {name: tensor.detach().cpu() for name, tensor in found.items()}

    @classmethod
    def of(cls, size: int, tensors: dict[str, torch.Tensor]) -> LowRank:
        """What `tensors` returned, on the CPU.

        Args:
            size: D. tensors: of the shapes and dtypes that `SHAPES` says.

        Raises:
            ValueError: they do not fit together.
        """
        made = cls(size)
        directions, rest = tensors["directions"], tensors["rest"]
        if len(rest) != size or directions.shape[1] != size or len(directions) > made.rank:
            raise ValueError(
                f"C's directions {tuple(directions.shape)} and the rest {tuple(rest.shape)} are not of {size} features, and at most {made.rank} directions"
            )
        rows, counts = tensors["rows"].long(), tensors["counts"].tolist()
        n, width = tensors["features"].shape
        if sum(map(abs, counts)) != n or n > made.rank or 0 in counts or tuple(rows.shape) != (len(counts), width):
            raise ValueError(
                f"C's latest parts have {counts} rows each, but {n} are there, on {tuple(rows.shape)} features"
            )
        ascend = bool((rows[:, 1:] > rows[:, :-1]).all())
        if len(rows) and not (width and ascend and rows.min() >= 0 and rows.max() < size):
            raise ValueError(f"C's latest parts must name ascending features in 0..{size - 1}")
        features = tensors["features"].split([abs(count) for count in counts]) if counts else ()
        parts = tuple(_Part(r, f, 1 if count > 0 else -1) for r, f, count in zip(rows, features, counts, strict=True))
        made._take(directions, rest, parts, float(tensors["gone"]))
        return made


SHAPES: dict[str, tuple[tuple[int | None, ...], torch.dtype]] = {
    "directions": ((None, None), torch.float32),
    "rest": ((None,), torch.float32),
    "gone": ((1,), torch.float64),
    "rows": ((None, None), torch.int32),
    "features": ((None, None), torch.float32),
    "counts": ((None,), torch.int32),
}  # of what `LowRank.tensors` returns
