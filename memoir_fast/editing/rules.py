"""The update rules of an edit, or of several made together, without touching the memory until they are committed.

With A (n, k) the active features of the n training tokens, every rule moves the active rows along `U^T g`, g the loss's
gradient for the projection's outputs:

* `sgd` (the method of MEMOIR): U = A. Plain SGD on the k active rows.
* `preconditioned`: U = A P with `P = r (C + lam I)^-1`, C (k, k) the sum of A^T A over the edits so far on these features: what
  earlier edits read is stiff, what nobody reads is soft (recursive least squares inside the sparse memory). r keeps the
  trace of A P A^T that of A A^T, so that steps are as long as without; with C = 0 it is plain SGD.

The length of a `preconditioned` step adapts itself (`adaptive_rate`) unless the user asks for a learning rate: where a loss rose, half of
the last step is taken back instead of a new one made.

A velocity of past gradients may carry the steps on (momentum); it lives in token space, (n, d) in both forms, and weight decay
stays out of it. Both forms below hold the same iterates `s * V0 + U^T G`: `TokenWrite` keeps G (n, d) and the matrix
`K = A U^T`; `BlockWrite` keeps the (k, d) block itself, which is cheaper once n exceeds about 2k. Edits made together share one A
whose columns are the union of their masks, zero outside each edit's own; each has its own part of the tokens, and its own clipping.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import cast

import numpy as np
import torch

from ..config import MemoirConfig
from ..memory.residual import ResidualMemory
from ..memory.update import Update
from .update_rule import settled

_AIM = 0.01  # the loss that an adaptive step makes for; half of the loss at which an edit stops
_LONGEST = 100.0  # the first step allowed, in P's metric; those of real models take less than 10
_LEAST_NORM = 1e-30  # squared: below, there is no gradient to follow, and a step along it would overflow
_GROWTH = 1.3  # by which the longest step allowed grows with every step after which the loss fell


class _Write(ABC):
    """State common to both forms.

    Args:
        features: A (n, k) float32, the active features of the training tokens.
        before: (n, d) float32, the memory's output for them before the edit.
        config: learning rate, momentum, weight decay and clip norm.
        moves: U (n, k) float32, what a gradient is multiplied with; None for A itself.
        parts: the tokens of each edit as slices; None for a single edit.

    Attributes:
        decay: s, by which the edits' weight decay shrinks the whole memory.
    """

    def __init__(
        self,
        features: torch.Tensor,
        before: torch.Tensor,
        config: MemoirConfig,
        moves: torch.Tensor | None = None,
        parts: list[slice] | None = None,
    ):
        self.features, self.before = features, before
        self.moves = features if moves is None else moves
        self.parts = parts or [slice(0, len(features))]
        self.decay = 1.0
        config = settled(config)
        self.adapts, self._clip = config.edit_lr is None, config.clip_norm
        self._lr = 0.0 if config.edit_lr is None else config.edit_lr
        self._keep = 1.0 - self._lr * cast(float, config.weight_decay)
        # With steps that adapt: each edit's last step and its longest one allowed, in P's metric, and whether the last was taken back.
        self._length, self._reach = [0.0] * len(self.parts), [_LONGEST] * len(self.parts)
        self._halving = [False] * len(self.parts)
        self._best, self._small = [math.inf] * len(self.parts), config.stop_loss
        self._momentum, self._velocity = cast(float, config.momentum), torch.zeros_like(before)

    # ---- what each form does in its own way --------------------------------------------------------------------------

    @abstractmethod
    def _output(self) -> torch.Tensor:
        """(n, d) float32: `U^T G` read with A."""

    @abstractmethod
    def _squared_norm(self, gradient: torch.Tensor, part: slice) -> torch.Tensor:
        """The squared norm () of an edit's step along its gradient (its tokens, d)."""

    @abstractmethod
    def _move(self, velocity: torch.Tensor) -> None:
        """One step along a velocity (n, d)."""

    @abstractmethod
    def _result(self, part: slice, columns: torch.Tensor) -> dict[str, torch.Tensor]:
        """The fields of an edit's `Update` that hold its delta."""

    # ---- what both do ------------------------------------------------------------------------------------------------

    def contribution(self) -> torch.Tensor:
        """(n, d) float32: what the memory adds to the projection's output now."""
        return self._output() + self.before * self.decay

    def step(self, gradient: torch.Tensor, moving: list[bool] | None = None, losses: list[float] | None = None) -> None:
        """One SGD step.

        Args:
            gradient: (n, d) float32, of the losses with respect to the projection's output.
            moving: which edits still move (all, when None).
            losses: each edit's loss here; needed where steps adapt.
        """
        for number, part in enumerate(self.parts):
            velocity = self._velocity[part]
            if moving is not None and not moving[number]:
                velocity.zero_()
                continue
            squared = max(0.0, float(self._squared_norm(gradient[part], part)))
            if not self.adapts:
                velocity.mul_(self._momentum).sub_(gradient[part], alpha=self._rate(squared))
            elif losses is None:
                raise ValueError("losses: a step that adapts itself needs each edit's loss")
            elif losses[number] > self._best[number]:
                # The last step was too long: back to half of it, then to a quarter, ... and none as long is tried again at once.
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
        """The step length of an edit whose loss fell, within what it may reach."""
        rate = adaptive_rate(loss, _AIM, squared)
        length = rate * math.sqrt(squared)
        self._length[number] = min(length, self._reach[number])
        self._reach[number] *= _GROWTH
        return rate * self._length[number] / length if length > 0 else 0.0

    def updates(
        self, rows: torch.Tensor, masks: Iterable[torch.Tensor], signatures: np.ndarray, memory: ResidualMemory
    ) -> list[Update]:
        """What the edits add to the memory, one update each.

        Args:
            rows: (k,) int32, the memory's row of each column of A; masks: (edits, k of one edit) int32, among `rows`;
            signatures: (edits, ceil(D/8)) uint8, the masks packed.
        """
        scale, found = memory.scale * self.decay, []
        for number, (mask, signature, part) in enumerate(zip(masks, signatures, self.parts, strict=True)):
            columns = torch.searchsorted(rows.long(), mask.long())
            features = None if memory.C is None else self.features[part][:, columns]
            decay = self.decay if number == 0 else 1.0  # the edits shared one decay
            found.append(Update(mask, signature, decay, scale, features=features, **self._result(part, columns)))
        return found

    def _rate(self, squared: float) -> float:
        """The step length: the learning rate, less when the gradient's norm (in P's metric) exceeds the clip norm."""
        norm = math.sqrt(squared)
        return self._lr * min(1.0, self._clip / norm) if norm > 0 else self._lr


class TokenWrite(_Write):
    """Token space: G (n, d) and K = A U^T; a step costs n * n * d."""

    def __init__(
        self,
        features: torch.Tensor,
        before: torch.Tensor,
        config: MemoirConfig,
        moves: torch.Tensor | None = None,
        parts: list[slice] | None = None,
    ):
        super().__init__(features, before, config, moves, parts)
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

    def _result(self, part: slice, columns: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"moves": self.moves[part][:, columns], "G": self.G[part]}


class BlockWrite(_Write):
    """The (k, d) block itself, of a single edit; a step costs 2 * n * k * d."""

    def __init__(
        self,
        features: torch.Tensor,
        before: torch.Tensor,
        config: MemoirConfig,
        moves: torch.Tensor | None = None,
        parts: list[slice] | None = None,
    ):
        super().__init__(features, before, config, moves, parts)
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

    def _result(self, part: slice, columns: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"block": self.block}


def preconditioned(features: torch.Tensor, C: torch.Tensor, ridge: float) -> torch.Tensor:
    """U = A P (n, k), P = r (C + lam I)^-1 with trace(A P A^T) = trace(A A^T).

    Args:
        features: A (n, k) float32; C: (k, k) float32, symmetric positive semi-definite up to rounding.
        ridge: lam as a multiple of the tokens' mean energy |a|^2 on the mask, so that it means the same for every model.
    """
    energy = features.square().sum(1).mean()
    lam = ridge * float(energy)
    matrix = (C + C.T) / 2
    for _ in range(6):  # rounding may leave C slightly indefinite: more ridge until it factors
        factor, failed = torch.linalg.cholesky_ex(matrix + lam * torch.eye(len(C), device=C.device))
        if int(failed) == 0:
            break
        lam *= 10
    else:
        raise RuntimeError("the memory's record of what earlier edits read is not positive: it is damaged")
    moves = torch.cholesky_solve(features.T, factor).T
    return moves * (features.square().sum() / (features * moves).sum())


def adaptive_rate(loss: float, aim: float, squared_norm: float) -> float:
    """The step length after which the loss would be `aim`, were it log(1 + e^-m) with m linear along the gradient.

    A cross entropy is such a function of the margin m by which the right token leads. Far from the aim this is Polyak's step (the loss
    over the squared norm), near it the step that multiplies the odds. It has no unit, so that nothing in it depends on the model.

    Args:
        loss: of the edit now; squared_norm: of its gradient, in the update rule's metric.
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
) -> TokenWrite | BlockWrite:
    """The cheaper form: token space while n < 2k, and for edits made together, whose blocks could not be told apart. Arguments
    as for the forms."""
    tokens, active = features.shape
    form = TokenWrite if tokens < 2 * active or (parts is not None and len(parts) > 1) else BlockWrite
    return form(features, before, config, moves, parts)
