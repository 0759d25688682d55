"""Routes: which stored edit, if any, each sequence of a batch reads (MEMOIR, section 3.3), and the rows that it reads.

Routes are a reader's view of the memory. They are made once, when the prompt has been read, and never change. They hold
copies of the rows that the matched edits read, so no later edit, deletion or refresh changes an answer that has begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .. import ops


@dataclass(frozen=True)
class Routes:
    """The decision for one batch of B sequences.

    `rows`, `indices` and `blocks` are None if no sequence reads an edit. All tensors are on the model's device.

    Attributes:
        edits: B edit ids, -1 for a sequence that reads nothing.
        scores: B scores, 0..1, of the likeliest stored edit (0 when nothing is stored); with router="mask" its overlap.
        rows: (B,) int32, each sequence's line in `indices`, or -1.
        indices: (R, k) int32, the matched edits' masks.
        blocks: (R, k, d) float32, the effective memory's rows on these masks.
        begins: (B,) int64, the column of the prompt's forward pass from which each sequence reads; None for the first.
    """

    edits: list[int]
    scores: list[float]
    rows: torch.Tensor | None = None
    indices: torch.Tensor | None = None
    blocks: torch.Tensor | None = None
    begins: torch.Tensor | None = None

    @classmethod
    def none(cls, batch: int) -> Routes:
        """Routes for a batch that reads nothing."""
        return cls([-1] * batch, [0.0] * batch)

    def __deepcopy__(self, memo: dict) -> Routes:
        return self  # it is immutable

    def select(self, positions: torch.Tensor) -> Routes:
        """The routes of the sequences at `positions` (n,), in that order, for a cache whose batch was reordered,
        repeated or cut."""
        order = positions.tolist()
        rows = None if self.rows is None else self.rows[positions.to(self.rows.device)]
        begins = None if self.begins is None else self.begins[positions.to(self.begins.device)]
        edits, scores = [self.edits[i] for i in order], [self.scores[i] for i in order]
        return Routes(edits, scores, rows, self.indices, self.blocks, begins)

    def read(self, x: torch.Tensor, out: torch.Tensor, length: int, whole: bool = True) -> torch.Tensor:
        """`out` plus the memory's output; sequences that read nothing stay the same to the bit.

        Args:
            x: the projection's input, (..., D), with B * length rows in all.
            out: (..., d), the projection's output.
            length: the number of tokens of each sequence in this pass.
            whole: whether these begin with the sequence's first token (nothing is cached).

        Returns:
            `out`, changed in place, if no gradient is recorded; otherwise a new tensor.
        """
        if self.rows is None or self.indices is None or self.blocks is None:
            return out
        route = self.rows if length == 1 else self.rows.repeat_interleave(length)
        if whole and length > 1 and self.begins is not None:
            reads = torch.arange(length, device=route.device) >= self.begins[:, None]
            route = route.where(reads.flatten(), -1)
        flat, base = x.reshape(-1, x.shape[-1]), out.reshape(-1, out.shape[-1])
        if torch.is_grad_enabled() and (x.requires_grad or out.requires_grad):
            return (base + ops.block_matmul(flat, self.blocks, self.indices, route, 1.0)).reshape(out.shape)
        ops.block_matmul_(base, flat, self.blocks, self.indices, route, 1.0)
        return base.reshape(out.shape)


# ---- routes kept with a cache ------------------------------------------------------------------------------------


class _Following:
    """Mixed into the class of a key-value cache that holds routes, so that they follow changes of the cache's batch.

    The cache's class is replaced by a subclass. (Methods put on the object itself would create a reference cycle, and
    its memory would wait for the garbage collector.)
    """

    memoir_routes: Routes

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        super().reorder_cache(beam_idx)  # type: ignore[misc]
        self.memoir_routes = self.memoir_routes.select(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)  # type: ignore[misc]
        self.memoir_routes = self.memoir_routes.select(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)  # type: ignore[misc]
        batch = len(self.memoir_routes.edits)
        self.memoir_routes = self.memoir_routes.select(torch.arange(batch).repeat_interleave(repeats))

    def reset(self) -> None:
        super().reset()  # type: ignore[misc]
        self.__class__ = type(self).__bases__[1]
        del self.memoir_routes

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _restored, (type(self).__bases__[1],), vars(self)  # pickle could not find this class by name


_following: dict[type, type] = {}  # a cache's class -> its subclass that holds routes


def keep_routes(cache: Any, routes: Routes) -> None:
    """Keep the routes with the cache that the pass filled, if there is one."""
    if cache is None or routes_of(cache) is routes:
        return
    if not isinstance(cache, _Following):
        cache.__class__ = _class_for(type(cache))
    cache.memoir_routes = routes


def _class_for(kind: type) -> type:
    if kind not in _following:
        _following[kind] = type(kind.__name__, (_Following, kind), {"__module__": kind.__module__})
    return _following[kind]


def _restored(kind: type[Any]) -> Any:
    """An empty cache of this class that can hold routes, for copying and unpickling."""
    return object.__new__(_class_for(kind))


def routes_of(cache: Any) -> Routes | None:
    """The routes kept with a cache, or None."""
    return getattr(cache, "memoir_routes", None)


def cache_among(values: Any) -> Any:
    """The key-value cache among a forward pass's arguments or outputs, whatever its name, or None."""
    return next((value for value in values if hasattr(value, "get_seq_length")), None)


def is_filled(cache: Any) -> bool:
    """Whether a cache holds tokens."""
    if isinstance(cache, _Following):
        return True  # a static cache counts its tokens on the device, and reading that would stall every token
    try:
        return bool(cache.get_seq_length() > 0)
    except ValueError:  # a cache with recurrent states only does not count tokens
        return bool(cache.has_previous_state())


def kept_routes(cache: Any, batch: int) -> Routes:
    """The routes of a filled cache's sequences. Raises ValueError if there are none, or none for this many."""
    routes = routes_of(cache)
    if routes is None:
        raise ValueError(
            "the key-value cache was filled by a model without this memory: its route was never decided. Start from an "
            "empty cache, or continue it under `with model.disabled():`"
        )
    if len(routes.edits) != batch:
        raise ValueError(
            f"the key-value cache holds the routes of {len(routes.edits)} sequences, the batch has {batch}"
        )
    return routes
