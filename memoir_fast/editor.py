"""Optimise one edit: everything below the projection once, then SGD on the memory through what comes after it."""

from __future__ import annotations

import functools
import math
import threading
import time
from dataclasses import dataclass

import torch

from .config import MemoirConfig
from .layout import lay_out, packing_pays
from .memory import ResidualMemory
from .replay import Replay, halved_copies
from .request import EditRequest, Encoder
from .routing import Router
from .suffix import Suffix, supports
from .target import Target
from .tophash import tophash_prompts
from .write import BlockWrite, TokenWrite, make_write


class EditError(RuntimeError):
    """An edit could not be made; the memory is as it was before."""


@dataclass(frozen=True)
class Finished:
    """An optimised edit that is not yet part of the memory.

    Attributes:
        request: what was edited.
        indices: (k,) int32 ascending, the mask; signature: (ceil(D/8),) uint8, the same packed.
        write: the update, see `write.py`.
        losses: the loss before each step, and the last one tested.
        steps: SGD steps made.
        seconds: wall time.
    """

    request: EditRequest
    indices: torch.Tensor
    signature: torch.Tensor
    write: TokenWrite | BlockWrite
    losses: list[float]
    steps: int
    seconds: float


class Editor:
    """Turns requests into finished edits; changes nothing itself.

    Args:
        model: the causal language model with the memory attached.
        memory, router, target: see `MemoirModel`.
        encoder: texts to tokens.
        contexts: the model's short contexts, see `request.make_contexts`.
    """

    def __init__(self, model, memory: ResidualMemory, router: Router, target: Target, encoder: Encoder, contexts):
        self.model, self.memory, self.router, self.target = model, memory, router, target
        self.encoder, self.contexts = encoder, contexts
        self._packs: bool | None = None
        self._halved = None
        self._lock = threading.Lock()

    def optimise(self, request: EditRequest, config: MemoirConfig) -> Finished:
        """Run the edit's SGD.

        Raises:
            ValueError: the request leaves no target token, is not a token prefix, or is longer than the context.
            EditError: the loss or its gradient became infinite or NaN.
        """
        began = time.perf_counter()
        sequences = [self.encoder.pair(request.prompt, request.target)]
        sequences += [self.encoder.pair(request.prompt, request.target, context) for context in self.contexts]
        training = self.model.training
        # Outside inference mode even if the caller is inside: the steps need autograd.
        with self._lock, torch.inference_mode(False):
            self.model.eval()
            try:
                layout = lay_out(sequences, self._packed(sequences), self.memory.V.device)
                replay = self._replay(layout, config)
                indices, signature = self._mask(replay)
                write, losses, steps = self._descend(replay, indices, config)
            finally:
                self.model.train(training)
        return Finished(request, indices, signature, write, losses, steps, time.perf_counter() - began)

    @torch.no_grad()
    def _mask(self, replay: Suffix | Replay) -> tuple[torch.Tensor, torch.Tensor]:
        """The mask of the identity sequence's prompt; it serves all sequences."""
        memory = self.memory
        words = replay.activations.reshape(1, -1, memory.in_features)[:, replay.layout.words]
        everything = torch.ones(words.shape[:2], dtype=torch.bool, device=words.device)
        indices, signature = tophash_prompts(words, everything, memory.background, memory.permutation, memory.top_k)
        return indices[0], signature[0]

    def _descend(self, replay: Suffix | Replay, indices: torch.Tensor, config: MemoirConfig):
        memory, layout = self.memory, replay.layout
        tokens = layout.tokens
        features = replay.activations.reshape(-1, memory.in_features)[tokens][:, indices.long()].float()
        before = (features @ memory.V[indices.long()]) * memory.scale
        write = make_write(features, before, config, memory.stiffness(indices))
        base = replay.outputs.reshape(-1, memory.out_features)[tokens].float()
        losses: list[float] = []
        for _ in range(config.steps):
            loss, gradient = replay.loss_and_gradient(base + write.contribution())
            if not (math.isfinite(loss) and torch.isfinite(gradient).all()):
                raise EditError(
                    f"the edit's loss is {loss} with a gradient that may not be finite: rolled back, the memory is "
                    "unchanged; try a smaller edit_lr or precision='exact'"
                )
            losses.append(loss)
            if _settled(losses, config):
                break
            write.step(gradient)
        return write, losses, len(losses) - _settled(losses, config)

    def _replay(self, layout, config: MemoirConfig) -> Suffix | Replay:
        """The layers above the projection, by hand where they are of a known kind, otherwise by the model's own code."""
        kind = Replay
        if supports(self.model, self.target):
            kind = functools.partial(Suffix, sparse=config.precision == "fast")
        return kind(self.model, self.router, self.target, layout, halved=self._halves(config))

    # ---- choices made once per model -----------------------------------------------------------------------------

    def _halves(self, config: MemoirConfig):
        """bfloat16 copies for `precision="fast"`, where the device multiplies them faster and the model is not in it already."""
        if config.precision == "exact" or self.model.dtype == torch.bfloat16 or not _halving_pays(self.memory.V.device):
            return None
        if self._halved is None:
            self._halved = halved_copies(self.model, self.target)
        return self._halved

    def _packed(self, sequences) -> bool:
        layer = self.model.get_submodule(self.target.layers_path)[self.target.layer]
        parameters = sum(p.numel() for p in layer.parameters())
        if not packing_pays(sequences, parameters, self.target.out_features):
            return False
        if self._packs is None:
            self._packs = self._packing_works(sequences[:3])
        return self._packs

    @torch.no_grad()
    def _packing_works(self, sequences) -> bool:
        """Whether this model keeps packed sequences apart (some ignore position_ids): compare with padded rows."""
        seen = []
        for packed in (False, True):
            layout = lay_out(sequences, packed, self.memory.V.device)
            try:
                replay = Replay(self.model, self.router, self.target, layout)
            except TypeError:  # the model's forward takes no position_ids
                return False
            seen.append(replay.activations.reshape(-1, self.memory.in_features)[layout.tokens].float())
        return torch.allclose(seen[0], seen[1], rtol=1e-2, atol=1e-2 * float(seen[0].abs().max()))


def _halving_pays(device: torch.device) -> bool:
    """Whether a device has units for bfloat16 products; a CPU without them is several times slower than in float32."""
    if device.type != "cpu":
        return True
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))


def _settled(losses: list[float], config: MemoirConfig) -> bool:
    """The published stop, tested on the last two losses before a step."""
    return len(losses) > 1 and losses[-1] <= config.stop_loss and abs(losses[-1] - losses[-2]) <= config.stop_delta


@torch.no_grad()
def commit(memory: ResidualMemory, finished: Finished, edit_id: int) -> None:
    """Make a finished edit part of the memory: its rows, the scale and its signature, all of them or none."""
    rows = finished.indices.long()
    saved_rows, saved_scale, saved_block = memory.V[rows], memory.scale, memory.stiffness(finished.indices)
    try:
        finished.write.commit(memory, finished.indices)
        if not torch.isfinite(memory.V[rows]).all():
            raise EditError("the edit's update is not finite: rolled back, the memory is unchanged")
        memory.index.add([edit_id], finished.signature[None].cpu().numpy())
    except BaseException:  # Ctrl-C included: nothing half done
        memory.V[rows], memory.scale = saved_rows, saved_scale
        if saved_block is not None:
            memory.C[rows[:, None], rows] = saved_block
        if edit_id in memory.index:
            memory.index.remove([edit_id])
        raise
