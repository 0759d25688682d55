"""The output embedding as `suffix.py` runs it: its losses and gradient by blocks of the vocabulary, for some targets at a time."""

from __future__ import annotations

import torch

from .layout import Layout
from .parts import add_product
from .weights import dtype_of, product_dtype, rows_of, sizes_of

_BLOCK = 2048  # rows of the head's matrix at a time: a CPU multiplies blocks of this size fastest
_TARGETS = 256  # target tokens at a time: a passage of 1,300 of them would need a quarter of a gigabyte of logits
_LOGITS = 1 << 24  # and no more than 64 MB of their logits
_CANDIDATES = 4096  # tokens that compete between two full passes over the vocabulary, with `sparse`
_FULL_EVERY = 8  # steps between full passes; more of them at the start, where the answer moves most
_FULL_AT = (1, 2, 3, 5)
_LEAST_LOGIT = -46.0  # below the largest; e^-46 = 1e-20. Smaller terms turn denormal, which a CPU multiplies slowly


def heads_of(weight: torch.Tensor, layout: Layout, sparse: bool) -> list[Head]:
    """A head for each group of targets; they share one buffer for the logits, in turn."""
    tokens = sizes_of(weight)[0]
    size = min(_TARGETS, max(1, _LOGITS // tokens))
    buffer = torch.empty(tokens * min(len(layout.labels), size), device=weight.device)
    groups = zip(layout.labels.split(size), layout.weights.split(size), strict=True)
    alone = len(layout.labels) <= size
    return [Head(weight, labels, weights, sparse, alone, buffer) for labels, weights in groups]


class Head:
    """The output embedding (V, h), and the weighted cross entropy of some targets with its gradient, by blocks of the
    vocabulary."""

    def __init__(
        self,
        weight: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor,
        sparse: bool,
        alone: bool,
        buffer: torch.Tensor,
    ):
        self.weight, self.labels, self.weights = weight, labels, weights
        self.tokens = sizes_of(weight)[0]
        self.columns = torch.arange(len(labels), device=weight.device)
        self.sparse = sparse and self.tokens > 2 * _CANDIDATES
        self._steps = 0
        self._logits = buffer[: self.tokens * len(labels)].view(self.tokens, -1)
        # With `sparse`: the candidates, each label's place among them, and the log of the other tokens' mass.
        self._chosen: torch.Tensor | None = None
        self._places: torch.Tensor | None = None
        self._rest: torch.Tensor | None = None
        self._alone = alone
        self._some: torch.Tensor | None = None  # the candidates' rows of the matrix, kept if there is only one group

    @property
    def next_is_full(self) -> bool:
        """Whether the whole vocabulary takes part in the next pass."""
        step = self._steps + 1
        return not self.sparse or step % _FULL_EVERY == 1 or step in _FULL_AT

    def losses_and_gradient(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """hidden (m, h) to the weighted losses (m,) and the gradient (m, h) of their sum."""
        full = self.next_is_full
        self._steps += 1
        if not full:
            assert self._chosen is not None and self._places is not None
            some = self._rows(self._chosen) if self._some is None else self._some
            return self._pass(hidden, some, self._places, self._logits[: len(some)], self._rest)[:2]
        losses, gradient, mass = self._pass(hidden, self.weight, self.labels, self._logits, None)
        if self.sparse:
            self._choose(mass)
        return losses, gradient

    def _rows(self, chosen: torch.Tensor) -> torch.Tensor:
        """The candidates' rows, in the dtype of the model."""
        return rows_of(self.weight, chosen, dtype_of(self.weight))

    def _pass(
        self,
        hidden: torch.Tensor,
        matrix: torch.Tensor,
        labels: torch.Tensor,
        logits: torch.Tensor,
        rest: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The losses (m,) and the gradient (m, h) over the rows of `matrix`, and the log of the mass of all tokens
        (m,)."""
        blocks = [slice(start, min(start + _BLOCK, len(logits))) for start in range(0, len(logits), _BLOCK)]
        dtype = product_dtype(matrix)
        columns, peaks = hidden.to(dtype).T.contiguous(), []
        for block in blocks:  # (block, h) @ (h, m): a CPU is fastest with the large matrix on the left
            rows = rows_of(matrix, block, dtype)
            if dtype == torch.float32:
                torch.mm(rows, columns, out=logits[block])
            else:
                logits[block] = rows @ columns
            peaks.append(logits[block].amax(0))
        if rest is not None:
            peaks.append(rest)
        largest, right = torch.stack(peaks).amax(0), logits[labels, self.columns]
        logits.sub_(largest).clamp_(min=_LEAST_LOGIT).exp_()
        total = logits.sum(0)
        if rest is not None:
            total += (rest - largest).exp()
        mass = total.log() + largest
        losses = self.weights * (mass - right)
        logits.mul_(self.weights / total)
        logits[labels, self.columns] -= self.weights
        gradient = torch.zeros_like(hidden)
        for block in blocks:
            add_product(gradient, logits[block].T, rows_of(matrix, block, dtype))
        return losses, gradient, mass

    def _choose(self, mass: torch.Tensor) -> None:
        """Choose the candidates for the next steps. The logits' gradient from the full pass is still in the buffer."""
        logits = self._logits
        logits[self.labels, self.columns] += self.weights
        chosen = logits.amax(1).index_fill_(0, self.labels, torch.inf).topk(_CANDIDATES).indices
        place = torch.empty(self.tokens, dtype=torch.int64, device=mass.device)
        place[chosen] = torch.arange(len(chosen), device=mass.device)
        self._chosen, self._places = chosen, place[self.labels]
        self._some = self._rows(chosen) if self._alone else None
        left = 1 - logits[chosen].sum(0) / self.weights  # the probability of all other tokens together
        self._rest = mass + left.clamp(min=1e-20).log()
