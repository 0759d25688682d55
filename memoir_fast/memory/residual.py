"""The residual memory: the weights written so far, their common scale, and the signatures that address them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence

import numpy as np
import torch

from .. import ops
from ..defaults import rank_of
from .changed import Changed
from .drift import Drift
from .index import SignatureIndex
from .low_rank import LowRank
from .pages import Pages, page_of
from .symmetric import Symmetric
from .update import Update


class ResidualMemory:
    """The residual weight: `scale * V` is `W_m^T`, the transpose of the method's residual weight, stored row by row.

    This is where readers and writers meet. A writer holds `lock` for the whole of one change to V, the scale and the
    index. A reader holds it while it looks an edit up and copies the rows that the edit reads (`block_of`), and does
    not look at V after that. So a reader sees the memory before a change or after it, never in between.

    Args:
        in_features: D, the projection's input width.
        out_features: d, its output width.
        top_k: k, active features per mask.
        permutation: (D,) int32, the fixed permutation of TopHash; drawn from torch's global generator when None.
        page_edits: how many edits share a page, by their ids; 0 for all of them.

    Raises:
        ValueError: top_k is not in 1..D, or the permutation is not one of 0..D-1.

    Attributes:
        pages: V, see `Pages`. Kept in float32 whatever the model's dtype.
        page: the newest page, the only one that new edits are written to.
        scale: S, a Python float (float64): the product of SGD's weight decay over all steps so far.
        background: (D,) float32, the mean prompt feature of unrelated prompts.
        permutation: (D,) int32.
        reads: C, symmetric (D, D), or None: the sum of `A^T A` over the newest page's edits, A being their tokens' features
            on the mask. It records which directions earlier edits read, and is kept with `write="preconditioned"`.
        form: what C is kept in: with pages and a projection that is not small, its largest directions and the diagonal, otherwise half of it.
        feature: what masks are made from, see `MemoirConfig.feature`.
        on_host: whether V and C stay on the CPU whatever the device; `to` sees to it. Readers and edits then get the rows that they read
            from there.
        drift: how far C is from the sum that it stands for; None unless somebody follows it (`watch`).
        index: the stored edits' signatures.
        lock: see above; reentrant.

    Source: MEMOIR (Wang et al., NeurIPS 2025), section 3.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        top_k: int,
        permutation: torch.Tensor | None = None,
        page_edits: int = 0,
    ):
        if not 1 <= top_k <= in_features:
            raise ValueError(f"top_k must be in [1, {in_features}] for this projection, got {top_k}")
        self.in_features, self.out_features, self.top_k = in_features, out_features, top_k
        if permutation is None:
            permutation = torch.randperm(in_features)
        if sorted(permutation.tolist()) != list(range(in_features)):
            raise ValueError(f"permutation must hold each of 0..{in_features - 1} once")
        self.page_edits, self.page = page_edits, 0
        self.pages = Pages(in_features, out_features)
        self.background = torch.zeros(in_features)
        self.permutation = permutation.to(torch.int32)
        self.reads: Symmetric | LowRank | None = None
        self.form: type[Symmetric | LowRank] = LowRank if page_edits and rank_of(in_features) else Symmetric
        self.drift: Drift | None = None
        self.on_host = False
        self.scale = 1.0
        self.feature = "mean_decentered"
        self.index = SignatureIndex(in_features, top_k)
        self.lock = threading.RLock()
        self._blocks: weakref.WeakValueDictionary[int, torch.Tensor] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        """Number of stored edits."""
        return len(self.index)

    def __repr__(self) -> str:
        return f"ResidualMemory(D={self.in_features}, d={self.out_features}, k={self.top_k}, edits={len(self)})"

    @property
    def V(self) -> torch.Tensor:
        """(P * D, d) float32: row `p * D + j` holds feature j's weights in page p. A copy if there are several pages."""
        return self.pages.whole

    @property
    def tracks(self) -> bool:
        """Whether C is kept."""
        return self.reads is not None

    @property
    def C(self) -> torch.Tensor | None:
        """(D, D) float32: a copy of C with both triangles, or None if it is not kept."""
        return None if self.reads is None else self.reads.whole()

    @property
    def device(self) -> torch.device:
        """Where it is read and edits are optimised: where its tensors are, except that V and C may stay `on_host`."""
        return self.background.device

    def page_of(self, edit_id: int) -> int:
        """The page that an edit's rows are in."""
        return page_of(edit_id, self.page_edits)

    def uses(self, page: int) -> np.ndarray:
        """(D,) int64, of the caller's own: how many of a page's stored edits have each feature in their mask."""
        if not self.page_edits:
            return self.index.uses()
        return self.index.uses(range(page * self.page_edits, (page + 1) * self.page_edits))

    def to(self, device: torch.device) -> ResidualMemory:
        """Move the memory to a device, except what stays on the host, and return it; dtypes stay the same."""
        weights = torch.device("cpu") if self.on_host else device
        if (self.device, self.pages.device) != (device, weights):
            with self.lock:
                self.pages.to(weights)
                self.background, self.permutation = self.background.to(device), self.permutation.to(device)
                if self.reads is not None:
                    self.reads.to(weights)
                self._blocks.clear()
        return self

    # ---- for writers, which hold the lock ------------------------------------------------------------------------

    def track(self) -> None:
        """Start keeping C."""
        if self.reads is None:
            self.reads = self.form(self.in_features).to(self.pages.device)

    def watch(self) -> None:
        """Follow from now on how far C drifts from what was added to it and not taken back, if half of it is kept. The memory must
        be empty: a product with a C of zeros would take up all of its room."""
        if isinstance(self.reads, Symmetric):
            self.drift = Drift(self.in_features)

    def write(self, update: Update, sign: int = 1) -> None:
        """Add an update to V and C, or take it back with sign -1. Neither the scale nor the index is touched. The first update of a
        page begins it; C has nothing of earlier pages, which get no new edits."""
        with self.lock:
            self.pages.check(update.page)
            if update.page > self.page:
                self.begin(update.page)
            newest = update.page == self.page
            if newest and self.drift is not None and update.features is not None:
                self.drift.add(update.rows, update.features, sign)
            update = update.to(self.pages.device)
            self._blocks.clear()
            self.pages.add(update, sign)
            if newest and self.reads is not None:
                assert update.features is not None
                self.reads.add(update.rows, update.features, sign)

    def begin(self, page: int) -> None:
        """Go on with a later page. What is written to earlier ones from then on leaves C alone, so whoever writes many updates saves time
        who begins with the last one's page."""
        self.page = page
        if self.reads is not None:
            self.reads = None
            self.track()
        if self.drift is not None:
            self.drift.clear()

    def forget_blocks(self) -> None:
        """Call this after changing V other than by `write`, so that new readers, and files, get fresh copies."""
        self.pages.touch()
        self._blocks.clear()

    def clear(self) -> None:
        """Forget every edit; background and permutation stay."""
        with self.lock:
            self._blocks.clear()
            self.index.remove(self.index.ids)
            self.pages.clear()
            self.page = 0
            if self.reads is not None:
                self.reads.clear()
            if self.drift is not None:
                self.drift.clear()
            self.scale = 1.0

    def fill(self, V: torch.Tensor | dict[int, torch.Tensor], scale: float, ids: Sequence[int], signatures: np.ndarray, C: Symmetric | LowRank | None = None,
             sums: torch.Tensor | None = None, rows: torch.Tensor | None = None, page: int = 0) -> None:  # fmt: skip
        """Fill an empty memory.

        Args:
            V: (P * D, d) float32, or only the rows `rows`; or the pages (D, d) by number, to be this memory's own.
            scale: S.
            ids: n ints, ascending.
            signatures: (n, ceil(D/8)) uint8.
            C: in either form, to be this memory's own; if the memory keeps it.
            sums: what `drift` had found for this C, see `Drift`; None takes C for the sum itself.
            rows: which rows of V are given; None for all of them.
            page: the newest page, which C is of.

        Raises:
            ValueError: as `SignatureIndex.add`; nothing is filled then.
        """
        with self.lock:
            if len(ids):
                self.index.add(ids, signatures)
            self._blocks.clear()
            self.page = page
            if isinstance(V, dict):
                for number, values in V.items():
                    self.pages.take(number, values)
            else:
                self.pages.put(torch.arange(len(V)) if rows is None else rows, V)
            if self.reads is not None:
                assert C is not None
                self.reads = C.to(self.pages.device)
            if self.drift is not None and isinstance(self.reads, Symmetric):
                if sums is None:
                    self.drift.begin(self.reads)
                else:
                    self.drift.sums.copy_(sums)
            self.scale = scale

    def changed(self, without: list[Update], given: list[Update], scale: float | None = None) -> Changed:
        """What an edit reads once some updates are taken out and others added; see `Changed`."""
        return Changed(self, without, given, scale)

    def rows_of(self, rows: torch.Tensor) -> torch.Tensor:
        """(n, d) float32: a copy of rows (n,) of V, of all pages."""
        return ops.upload(self.pages.of_rows(rows.to(self.pages.device)), self.device)

    def stiffness(self, indices: torch.Tensor, page: int = 0) -> torch.Tensor | None:
        """(k, k) float32: C restricted to a mask (k,), which ascends, in the newest page or a later one, or None if C is not kept."""
        if self.reads is None:
            return None
        assert page >= self.page
        if page > self.page:
            return torch.zeros(len(indices), len(indices), device=self.device)
        return ops.upload(self.reads.within(indices.to(self.pages.device)), self.device)

    # ---- for readers ---------------------------------------------------------------------------------------------

    def block_of(self, edit_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What a reader of a stored edit needs: its mask (k,) int32 ascending, and `scale * V[mask]` (k, d) float32
        of its page.

        The rows are a copy that no later change touches; until V changes, all readers of the edit share it. Raises
        ValueError for an unknown id.
        """
        with self.lock:
            indices = self.indices_of(edit_id)
            block = self._blocks.get(edit_id)
            if block is None:
                page = self.pages.page(self.page_of(edit_id))
                rows = ops.upload(indices.long(), page.device)
                with (
                    torch.inference_mode(False),
                    torch.no_grad(),
                ):  # readers outside inference mode may share it
                    block = page[rows] if self.scale == 1.0 else page[rows].mul_(self.scale)
                    block = ops.upload(block, self.device)
                self._blocks[edit_id] = block
        return indices, block

    def indices_of(self, edit_id: int) -> torch.Tensor:
        """(k,) int32 ascending: a stored edit's mask, unpacked from its signature. Raises ValueError for an unknown
        id."""
        bits = np.unpackbits(self.index.signature(edit_id), bitorder="little", count=self.in_features)
        return torch.from_numpy(np.flatnonzero(bits).astype(np.int32))
