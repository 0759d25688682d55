"""Optimise edits: run everything below the projection once, then do SGD on the memory through the layers above it."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from ..base.causal_lm import CausalLM, evaluating
from ..base.gradients import check_gradients
from ..base.projection import Target, layers_of
from ..base.running import is_plain, versions_of
from ..config import MemoirConfig
from ..defaults import default_contexts, default_stop_token_loss, default_wordings
from ..errors import EditError
from ..memory.changed import Changed
from ..memory.residual import ResidualMemory
from ..memory.update import Update
from ..reading.features import tophash_segments
from ..reading.router import Router
from ..text.encoder import Encoder, Sequence
from ..text.rewording import reworded
from .below import Below
from .layout import Layout, lay_out, packing_pays
from .masks import spread_masks
from .replay import Halved, Replay, halved_copies
from .request import EditRequest
from .rules import BlockWrite, TokenWrite, make_write, preconditioned
from .suffix import Suffix, supports
from .update_rule import rule_of, settled
from .weights import has_bfloat16


@dataclass(frozen=True)
class Finished:
    """Optimised edits that are not yet part of the memory: one, or several made together.

    Attributes:
        requests: the b facts that were edited.
        updates: per request, what it adds to the memory.
        losses: per request, the loss before each step and the loss at which it stopped.
        steps: per request, the number of SGD steps made.
        final: per request, its loss after the last step.
        seconds: wall time of all of them together.
    """

    requests: list[EditRequest]
    updates: list[Update]
    losses: list[list[float]]
    steps: list[int]
    final: list[float]
    seconds: float

    def joined(self, other: Finished) -> Finished:
        """These and others, made one after the other."""
        lists = ("requests", "updates", "losses", "steps", "final")
        both = {name: getattr(self, name) + getattr(other, name) for name in lists}
        return Finished(**both, seconds=self.seconds + other.seconds)


class Editor:
    """Turns requests into finished edits; the memory is not changed. Used by one thread at a time (`MemoirModel` sees
    to that).

    Args:
        model: the causal language model with the memory attached.
        memory, router, target: see `MemoirModel`.
        encoder: turns texts into tokens.
        contexts: the model's short contexts, see `text/contexts.py`.
    """

    def __init__(
        self,
        model: CausalLM,
        memory: ResidualMemory,
        router: Router,
        target: Target,
        encoder: Encoder,
        contexts: list[str],
    ):
        self.model, self.memory, self.router, self.target = model, memory, router, target
        self.encoder, self.contexts = encoder, contexts
        self._below = Below(model, router, target)
        self._packs: bool | None = None
        self._limits: dict[int, float] = {}  # by token, see `_most_losses`
        self._passes = False  # whether the layers above were seen to pass gradients back
        self._halved: Halved | None = None
        self._halved_of: list[tuple[int, int]] | None = None

    def optimise(
        self,
        requests: list[EditRequest],
        config: MemoirConfig,
        without: list[Update] | None = None,
        given: list[Update] | None = None,
        scale: float | None = None,
        first: int = 0,
    ) -> Finished:
        """Run the SGD of all edits together, step by step; a single request is the published edit.

        Args:
            requests: the facts to learn.
            config: the settings, the same for all of them.
            without: updates that will be taken back before these edits are written.
            given: updates that will be written before these edits.
            scale: the memory's scale at that point; None for the present one.
            first: the id that the first of them will get; the others follow. It decides on their pages.

        Raises:
            ValueError: a request has no target token or does not fit the model's context (see `Encoder.pair`), or the
                layers above the projection pass no gradient back.
            EditError: a loss or its gradient became infinite or NaN.

        Source: MEMOIR (Wang et al., NeurIPS 2025), section 3; the update rules are in `editing/rules.py`.
        """
        began, config = time.perf_counter(), settled(config)
        edits = [self._sequences(request, config) for request in requests]
        if not self._passes and not supports(self.model, self.target):
            check_gradients(self.model, self.target)
            self._passes = True
        # Outside inference mode even if the caller is inside: the steps need autograd.
        with torch.inference_mode(False), _at_rest(self.model):
            counted = 1 if config.recipe == "published" else 0
            layout = lay_out(edits, self._packed(edits), self.memory.device, counted, config.acts or "all")
            replay = self._replay(layout, config)
            pages = [self.memory.page_of(first + number) for number in range(len(requests))]
            indices, signatures = self._masks(replay, requests, config, pages, without or [], given or [])
            memory: ResidualMemory | Changed = (
                self.memory.changed(without or [], given or [], scale) if without or given or scale else self.memory
            )
            rows, write = self._prepare(replay, indices, config, memory, pages)
            losses, steps, final = self._descend(replay, write, config)
            updates = write.updates(rows, indices, signatures, memory, pages)
        return Finished(list(requests), updates, losses, steps, final, time.perf_counter() - began)

    def _sequences(self, request: EditRequest, config: MemoirConfig) -> list[Sequence]:
        """What an edit is trained on: prompt and target in the template's variants, wordings generated from the prompt,
        the user's rephrasings if the settings say so, and the prompt behind some contexts."""
        wanted = default_contexts(self.encoder.is_chat) if config.contexts is None else config.contexts
        prompt, target, encoder = request.prompt, request.target, self.encoder
        chosen = self.contexts[:wanted]
        first = [encoder.pair(prompt, target)] if config.recipe == "published" else encoder.pairs(prompt, target)
        made = default_wordings(encoder.is_chat) if config.wordings is None else config.wordings
        more = []
        for text in reworded(prompt)[:made]:
            with contextlib.suppress(ValueError):  # the prompt just fits the model's context, this wording does not
                more.append(encoder.pair(text, target))
        if config.train_rephrasings:
            more += [pair for text in request.rephrasings for pair in encoder.pairs(text, target)]
        return [*first, *more, *(encoder.pair(prompt, target, context) for context in chosen)]

    @torch.no_grad()
    def _masks(
        self,
        replay: Suffix | Replay,
        requests: list[EditRequest],
        config: MemoirConfig,
        pages: list[int],
        without: list[Update],
        given: list[Update],
    ) -> tuple[torch.Tensor, np.ndarray]:
        """The mask of each edit, which all of its sequences use: (edits, k) int32, and packed. The prompts' masks are made
        from the edits' identity prompts."""
        memory, words = self.memory, replay.layout.words
        if config.masks == "spread":
            found = []
            for page in sorted(set(pages)):
                uses = memory.uses(page)
                for updates, change in ((without, -1), (given, 1)):
                    for update in updates:
                        if update.page == page:
                            uses[update.rows.cpu().numpy()] += change
                prompts = [request.prompt for request, place in zip(requests, pages, strict=True) if place == page]
                found.append(spread_masks(prompts, uses, memory.top_k, config.seed))
            chosen, packed = (np.concatenate(parts) for parts in zip(*found, strict=True))
            return torch.from_numpy(chosen).to(memory.device), packed
        if memory.feature == "last":
            words = [part[-1:] for part in words]
        places = torch.cat(words)
        activations = replay.activations.reshape(-1, memory.in_features)[places]
        ends = torch.tensor([0, *(len(part) for part in words)], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        indices, signatures = tophash_segments(activations, ends.to(activations.device), memory)
        return indices, signatures.cpu().numpy()

    @torch.no_grad()
    def _prepare(
        self,
        replay: Suffix | Replay,
        indices: torch.Tensor,
        config: MemoirConfig,
        memory: ResidualMemory | Changed,
        pages: list[int],
    ) -> tuple[torch.Tensor, TokenWrite | BlockWrite]:
        """The rows that may change, int64 ascending, and the write before its first step, with A (and U) zero outside each edit's
        own mask."""
        layout = replay.layout
        each = indices.long() + torch.tensor(pages, device=indices.device)[:, None] * memory.in_features
        rows = each[0] if len(each) == 1 else each.unique()
        places = torch.searchsorted(rows, each)
        activations = replay.activations.reshape(-1, memory.in_features)[layout.tokens[layout.acting]]
        features = torch.zeros(len(activations), len(rows), device=activations.device)
        moves = torch.zeros_like(features) if rule_of(config).tracks else None
        for mask, place, part, page in zip(indices, places, layout.parts, pages, strict=True):
            own = activations[part][:, mask.long()].float()
            features[part, place] = own
            if moves is not None:
                moves[part, place] = preconditioned(own, _stiffness(memory, mask, page), config.ridge)

        def again(number: int) -> torch.Tensor:
            part, mask = layout.parts[number], indices[number]
            found, own = torch.zeros_like(features[part]), features[part, places[number]]
            counted = _stiffness(memory, mask, pages[number]) + own.T @ own
            found[:, places[number]] = preconditioned(own, counted, config.ridge)
            return found

        before = (features @ memory.rows_of(rows)) * memory.scale
        return rows, make_write(features, before, config, moves, layout.parts, None if moves is None else again)

    def _descend(
        self, replay: Suffix | Replay, write: TokenWrite | BlockWrite, config: MemoirConfig
    ) -> tuple[list[list[float]], list[int], list[float]]:
        layout = replay.layout
        base = replay.outputs.reshape(-1, self.memory.out_features)[layout.tokens[layout.acting]].float()
        edits = len(layout.parts)
        allowed = layout.weights * self._most_losses(layout.labels.tolist(), config).to(layout.weights.device)
        losses: list[list[float]] = [[] for _ in range(edits)]
        steps, moving = [0] * edits, [True] * edits
        for _ in range(config.steps):
            terms, gradient = replay.losses_and_gradient(base + write.contribution())
            found = torch.zeros(edits, device=terms.device).index_add_(0, layout.owners, terms).tolist()
            if not (all(map(math.isfinite, found)) and torch.isfinite(gradient).all()):
                raise EditError(
                    f"the edit's loss is {found} with a gradient that may not be finite: rolled back, the memory is "
                    "unchanged; try a smaller edit_lr or precision='exact'"
                )
            worst = terms.new_zeros(edits).scatter_reduce_(0, layout.owners, terms / allowed, "amax").tolist()
            for number, loss in enumerate(found):
                if moving[number]:
                    losses[number].append(loss)
                    moving[number] = worst[number] > 1 or not _settled(losses[number], config)
                    steps[number] += moving[number]
            if not any(moving):
                break
            write.step(gradient, moving, found)
        final = [seen[-1] for seen in losses]
        if any(moving):  # the steps ran out, so the loss after the last one is not known yet
            terms, _ = replay.losses_and_gradient(base + write.contribution())
            found = torch.zeros(edits, device=terms.device).index_add_(0, layout.owners, terms).tolist()
            final = [after if still else last for after, still, last in zip(found, moving, final, strict=True)]
        return losses, steps, final

    def _most_losses(self, labels: list[int], config: MemoirConfig) -> torch.Tensor:
        """(m,) float32: the loss of each target token at which its edit may stop."""
        if config.stop_token_loss is not None:
            return torch.full((len(labels),), config.stop_token_loss)
        for token in set(labels) - self._limits.keys():
            text = self.encoder.tokenizer.decode([token])
            self._limits[token] = default_stop_token_loss(self.encoder.is_chat, text)
        return torch.tensor([self._limits[token] for token in labels])

    def _replay(self, layout: Layout, config: MemoirConfig) -> Suffix | Replay:
        """The layers above the projection: hand-written for known architectures, otherwise the model's own code."""
        kind: Callable[..., Suffix | Replay] = Replay
        if supports(self.model, self.target):
            kind = functools.partial(Suffix, sparse=config.precision == "fast", below=self._below)
        return kind(self.model, self.router, self.target, layout, halved=self._halves(config))

    # ---- choices made once per model -----------------------------------------------------------------------------

    def _halves(self, config: MemoirConfig) -> Halved | None:
        """bfloat16 copies for `precision="fast"`; None where they would not be faster, or the model is in bfloat16
        already or quantised."""
        if config.precision == "exact" or self.model.dtype == torch.bfloat16 or not has_bfloat16(self.memory.device):
            return None
        weights = [
            p for layer in layers_of(self.model, self.target)[self.target.layer + 1 :] for p in layer.parameters()
        ]
        weights += self.model.get_output_embeddings().parameters()
        if not all(map(is_plain, weights)):  # quantised weights are smaller than such copies
            return None
        state = versions_of(weights)
        if self._halved is None or state is None or self._halved_of != state:
            self._halved, self._halved_of = halved_copies(self.model, self.target), state
        return self._halved

    def _packed(self, edits: list[list[Sequence]]) -> bool:
        sequences = [sequence for edit in edits for sequence in edit]
        layer = layers_of(self.model, self.target)[self.target.layer]
        parameters = sum(p.numel() for p in layer.parameters())
        if not packing_pays(sequences, parameters, self.target.out_features):
            return False
        if self._packs is None:
            self._packs = self._packing_works(sequences[:3])
        return self._packs

    @torch.no_grad()
    def _packing_works(self, sequences: list[Sequence]) -> bool:
        """Whether this model keeps packed sequences apart (some ignore position_ids), found by comparing with padded
        rows."""
        seen = []
        for packed in (False, True):
            layout = lay_out([sequences], packed, self.memory.device)
            try:
                replay = Replay(self.model, self.router, self.target, layout)
            except TypeError:  # the model's forward takes no position_ids
                return False
            seen.append(replay.activations.reshape(-1, self.memory.in_features)[layout.tokens].float())
        return torch.allclose(seen[0], seen[1], rtol=1e-2, atol=1e-2 * float(seen[0].abs().max()))


@contextlib.contextmanager
def _at_rest(model: CausalLM) -> Iterator[None]:
    """Put the model in eval mode and switch off its parameters' gradients (autograd would store what they need); undone
    at exit."""
    asking = [p for p in model.parameters() if p.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        with evaluating(model):
            yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def _stiffness(memory: ResidualMemory | Changed, mask: torch.Tensor, page: int) -> torch.Tensor:
    found = memory.stiffness(mask, page)
    assert found is not None  # the update rule that asks keeps C
    return found


def _settled(losses: list[float], config: MemoirConfig) -> bool:
    """Whether to stop, decided before each step from the last two losses. The authors' code has not recorded the newest
    loss at that point, so it compares the two before."""
    recorded = losses[:-1] if config.recipe == "published" else losses
    if len(recorded) < 2 or not recorded[-1] <= config.stop_loss:
        return False
    return abs(recorded[-1] - recorded[-2]) <= cast(float, config.stop_delta)
