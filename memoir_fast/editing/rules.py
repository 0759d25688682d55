"""The update rules for one edit, or for several made together. They do not touch the memory.

Let A (n, k) be the active features of the n training tokens and g (n, d) the gradient of the loss with respect to the
projection's outputs. Every rule moves the active rows along `U^T g`:

* `sgd` (the published method): U = A. Plain SGD on the k active rows.
* `preconditioned`: U = A P with `P = r (C + lam I)^-1`, where C (k, k) is the sum of A^T A over the earlier edits on
  these features. Directions that earlier edits read are stiff, unread ones are soft (recursive least squares inside the
  sparse memory). r makes the trace of A P A^T equal that of A A^T, so steps are as long as without P; with C = 0 it is
  plain SGD.

A `preconditioned` step chooses its own length (`adaptive_rate`) unless the user sets a learning rate. When a loss rose,
no new step is made; half of the last step is taken back. An edit that still moves after `PATIENCE` steps starts once
more, with what it reads itself counted in C: its own tokens no longer pull against each other, but it reaches further
into what earlier edits wrote, so others do without.

With momentum, a velocity of past gradients is kept. It is (n, d), in token space, in both forms below, and weight decay
does not apply to it. Both forms hold the same iterates `s * V0 + U^T G`. `TokenWrite` keeps G (n, d) and the matrix `K
= A U^T`; `BlockWrite` keeps the (k, d) block itself, which is cheaper once n exceeds about 2k. Edits made together
share one A, whose columns are the union of their masks and are zero outside each edit's own mask. Each edit has its own
part of the tokens and its own clipping.

Source: MEMOIR (Wang et al., NeurIPS 2025), section 3, for `sgd`; `preconditioned` is this library's.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import numpy as np
import torch

from ..config import MemoirConfig
from ..memory.changed import Changed
from ..memory.residual import ResidualMemory
from ..memory.update import Update
from .update_rule import settled

_AIM = 0.01  # the loss that an adaptive step aims at; half of the default loss at which an edit stops
_LONGEST = 100.0  # the longest first step, in P's metric; first steps of real models are below 10
_LEAST_NORM = 1e-30  # a squared norm; below it there is no gradient to follow, and a step along it would overflow
# Steps after which an edit starts once more. Of 66 codes, numbers and names in a chat 8 need more, and 5 of these do not end without it. With 10, three
# of 300 WikiBigEdit facts that would have ended, in a page of many edits, did not, and answered anything.
PATIENCE = 20
_GROWTH = 1.3  # factor by which the longest step allowed grows with every step after which the loss fell


class _Write(ABC):
    """State common to both forms.

    Args:
        features: A (n, k) float32, the active features of the training tokens.
        before: (n, d) float32, the memory's output for these tokens before the edit.
        config: learning rate, momentum, weight decay and clip norm.
        moves: U (n, k) float32, whose transpose multiplies the gradient; None for A itself.
        parts: per edit, the slice of its tokens; None for a single edit.
        again: takes an edit's number; returns U for its tokens where it starts once more. None if edits do not.

    Attributes:
        decay: s, the factor by which the edits' weight decay shrinks the whole memory.
    """

    def __init__(
        self,
        features: torch.Tensor,
        before: torch.Tensor,
        config: MemoirConfig,
        moves: torch.Tensor | None = None,
        parts: list[slice] | None = None,
        again: Callable[[int], torch.Tensor] | None = None,
    ):
        self.features, self.before = features, before
        self.moves = features if moves is None else moves
        self.parts, self._again = parts or [slice(0, len(features))], again
        self._made = [0] * len(self.parts)
        self.decay = 1.0
        config = settled(config)
        self.adapts, self._clip = config.edit_lr is None, config.clip_norm
        self._lr = 0.0 if config.edit_lr is None else config.edit_lr
        self._keep = 1.0 - self._lr * cast(float, config.weight_decay)
        # For adaptive steps, per edit: the last step's length and the longest one allowed, both in P's metric, and
        # whether the last step is being taken back.
        self._length, self._reach = [0.0] * len(self.parts), [_LONGEST] * len(self.parts)
        self._halving = [False] * len(self.parts)
        self._best, self._small = [math.inf] * len(self.parts), config.stop_loss
        self._momentum, self._velocity = cast(float, config.momentum), torch.zeros_like(before)

    # ---- what each form does differently -----------------------------------------------------------------------------

    @abstractmethod
    def _output(self) -> torch.Tensor:
        """(n, d) float32: `A U^T G`, the output of the edits' delta."""

    @abstractmethod
    def _squared_norm(self, gradient: torch.Tensor, part: slice) -> torch.Tensor:
        """The squared norm, a scalar tensor, of an edit's step along its gradient (its tokens, d)."""

    @abstractmethod
    def _move(self, velocity: torch.Tensor) -> None:
        """Make one step along a velocity (n, d)."""

    @abstractmethod
    def _replace(self, part: slice, moves: torch.Tensor) -> None:
        """Take an edit's delta back, and give its tokens another U (its tokens, k)."""

    @abstractmethod
    def _result(self, part: slice, columns: torch.Tensor) -> dict[str, torch.Tensor]:
        """The fields of an edit's `Update` that hold its delta."""

    # ---- what both do ------------------------------------------------------------------------------------------------

    def contribution(self) -> torch.Tensor:
        """(n, d) float32: what the memory adds to the projection's output at this point."""
        return self._output() + self.before * self.decay

    def step(self, gradient: torch.Tensor, moving: list[bool] | None = None, losses: list[float] | None = None) -> None:
        """One SGD step.

        Args:
            gradient: (n, d) float32, of the losses with respect to the projection's output.
            moving: which edits still move; None for all.
            losses: each edit's present loss; needed if step lengths adapt.

        Raises:
            ValueError: step lengths adapt and no losses were given.
        """
        for number, part in enumerate(self.parts):
            velocity = self._velocity[part]
            if moving is not None and not moving[number]:
                velocity.zero_()
                continue
            self._made[number] += 1
            if self._again is not None and self.adapts and self._made[number] == PATIENCE + 1:
                velocity.zero_()
                self._start_again(number, self._again(number))
                continue
            squared = max(0.0, float(self._squared_norm(gradient[part], part)))
            if not self.adapts:
                velocity.mul_(self._momentum).sub_(gradient[part], alpha=self._rate(squared))
            elif losses is None:
                raise ValueError("losses: a step that adapts itself needs each edit's loss")
            elif losses[number] > self._best[number]:
                # The last step was too long: go back to half of it, then to a quarter and so on; the next one may not
                # be longer.
                velocity.mul_(0.5 if self._halving[number] else -0.5)
                self._halving[number] = True
                self._length[number] *= 0.5
                self._reach[number] = self._length[number]
            else:
                velocity.zero_().sub_(gradient[part], alpha=self._adapted(number, losses[number], squared))
                self._best[number], self._halving[number] = max(losses[number], self._small), False
        self._move(self._velocity)
        self.decay *= self._keep

    def _adapted(self, number: int, loss: float, squared: float) -> float:
        """The rate for an edit whose loss fell, such that the step is no longer than allowed."""
        aim = _AIM if loss > _AIM else loss / 2  # lower still where a single token is not learned yet
        rate = adaptive_rate(loss, aim, squared)
        length = rate * math.sqrt(squared)
        self._length[number] = min(length, self._reach[number])
        self._reach[number] *= _GROWTH
        return rate * self._length[number] / length if length > 0 else 0.0

    def _start_again(self, number: int, moves: torch.Tensor) -> None:
        """Forget an edit's steps, and go on from where it began with another U (its tokens, k)."""
        self._replace(self.parts[number], moves)
        self._length[number], self._reach[number], self._halving[number] = 0.0, _LONGEST, False
        self._best[number] = math.inf

    def updates(
        self,
        rows: torch.Tensor,
        masks: Iterable[torch.Tensor],
        signatures: np.ndarray,
        memory: ResidualMemory | Changed,
        pages: Sequence[int],
    ) -> list[Update]:
        """What the edits add to the memory, one update each.

        Args:
            rows: (k,) int64 ascending, the memory's row for each column of A, see `Pages`.
            masks: (edits, k of one edit) int32, each edit's mask, whose rows in its page are all among `rows`.
            signatures: (edits, ceil(D/8)) uint8, the masks packed.
            memory: the memory that the edits were optimised against.
            pages: each edit's page.
        """
        scale, found = memory.scale * self.decay, []
        for number, (mask, signature, part, page) in enumerate(zip(masks, signatures, self.parts, pages, strict=True)):
            columns = torch.searchsorted(rows, mask.long() + page * memory.in_features)
            features = self.features[part][:, columns] if memory.tracks else None
            decay = self.decay if number == 0 else 1.0  # the edits share one decay; the first carries it
            result = self._result(part, columns)
            found.append(Update(mask, signature, decay, scale, features=features, page=page, **result))
        return found

    def _rate(self, squared: float) -> float:
        """The learning rate, lowered when the gradient's norm (in P's metric) exceeds the clip norm."""
        norm = math.sqrt(squared)
        return self._lr * min(1.0, self._clip / norm) if norm > 0 else self._lr


class TokenWrite(_Write):
    """The write in token space: G (n, d) and K = A U^T (n, n); a step costs n * n * d."""

    def __init__(
        self,
        features: torch.Tensor,
        before: torch.Tensor,
        config: MemoirConfig,
        moves: torch.Tensor | None = None,
        parts: list[slice] | None = None,
        again: Callable[[int], torch.Tensor] | None = None,
    ):
        super().__init__(features, before, config, moves, parts, again)
        self.gram = features @ self.moves.T
        self.G = torch.zeros_like(before)
        self._added = torch.zeros_like(before)  # K G, kept up to date

    def _output(self) -> torch.Tensor:
        return self._added

    def _squared_norm(self, gradient: torch.Tensor, part: slice) -> torch.Tensor:
        return (gradient * (self.gram[part, part] @ gradient)).sum()

    def _move(self, velocity: torch.Tensor) -> None:
        self.G.mul_(self._keep).add_(velocity)
        self._added.mul_(self._keep).addmm_(self.gram, velocity)

    def _replace(self, part: slice, moves: torch.Tensor) -> None:
        self.moves[part], self.G[part] = moves, 0.0
        self.gram = self.features @ self.moves.T
        self._added = self.gram @ self.G

    def _result(self, part: slice, columns: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"moves": self.moves[part][:, columns], "G": self.G[part]}


class BlockWrite(_Write):
    """The write as the (k, d) block itself, for a single edit; a step costs 2 * n * k * d."""

    def __init__(
        self,
        features: torch.Tensor,
        before: torch.Tensor,
        config: MemoirConfig,
        moves: torch.Tensor | None = None,
        parts: list[slice] | None = None,
        again: Callable[[int], torch.Tensor] | None = None,
    ):
        super().__init__(features, before, config, moves, parts, again)
        self.block = before.new_zeros(features.shape[1], before.shape[1])

    def _output(self) -> torch.Tensor:
        return self.features @ self.block

    def _squared_norm(self, gradient: torch.Tensor, part: slice) -> torch.Tensor:
        update = self.moves[part].T @ gradient
        if self.moves is self.features:
            return update.square().sum()
        return (gradient * (self.features[part] @ update)).sum()

    def _move(self, velocity: torch.Tensor) -> None:
        self.block.mul_(self._keep).addmm_(self.moves.T, velocity)

    def _replace(self, part: slice, moves: torch.Tensor) -> None:
        self.moves[part] = moves
        self.block.zero_()

    def _result(self, part: slice, columns: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"block": self.block}


def preconditioned(features: torch.Tensor, C: torch.Tensor, ridge: float) -> torch.Tensor:
    """U = A P (n, k), P = r (C + lam I)^-1 with trace(A P A^T) = trace(A A^T).

    Args:
        features: A (n, k) float32; C: (k, k) float32, symmetric positive semi-definite up to rounding.
        ridge: lam as a multiple of the tokens' mean energy |a|^2 on the mask, so that it means the same for every model.

    Raises:
        RuntimeError: C is far from positive, so it is damaged.

    Source: this library's; recursive least squares with a ridge.
    """
    energy = features.square().sum(1).mean()
    lam = ridge * float(energy)
    matrix = (C + C.T) / 2
    for _ in range(6):  # rounding may leave C slightly indefinite, so the ridge grows until the matrix factors
        factor, failed = torch.linalg.cholesky_ex(matrix + lam * torch.eye(len(C), device=C.device))
        if int(failed) == 0:
            break
        lam *= 10
    else:
        raise RuntimeError("the memory's record of what earlier edits read is not positive: it is damaged")
    moves = torch.cholesky_solve(features.T, factor).T
    return moves * (features.square().sum() / (features * moves).sum())


def adaptive_rate(loss: float, aim: float, squared_norm: float) -> float:
    """The rate of the step that would bring the loss to `aim` if it were log(1 + e^-m), with m linear along the
    gradient.

    A cross entropy is such a function of the margin m by which the right token leads. Far from the aim this is Polyak's
    step (the loss over the squared norm); near it, the step that multiplies the odds. It has no unit and no constant
    that depends on the model.

    Args:
        loss: the edit's present loss.
        aim: the loss to reach.
        squared_norm: of its gradient, in the update rule's metric.
    """
    if squared_norm <= _LEAST_NORM or loss <= 0:
        return 0.0
    margin = -(loss + math.log(-math.expm1(-loss)))  # where log(1 + e^-m) is the loss
    wanted = -(aim + math.log(-math.expm1(-aim)))
    return max(0.0, wanted - margin) * -math.expm1(-loss) / squared_norm


def make_write(
    features: torch.Tensor,
    before: torch.Tensor,
    config: MemoirConfig,
    moves: torch.Tensor | None = None,
    parts: list[slice] | None = None,
    again: Callable[[int], torch.Tensor] | None = None,
) -> TokenWrite | BlockWrite:
    """The cheaper form: token space while n < 2k, and for edits made together, which could not be told apart in one
    block. Arguments as for the forms."""
    tokens, active = features.shape
    form = TokenWrite if tokens < 2 * active or (parts is not None and len(parts) > 1) else BlockWrite
    return form(features, before, config, moves, parts, again)
