"""The published editor's way of working, in plain PyTorch: the yardstick of the speed benchmarks and an oracle.

What it does at each edit and query is what the method's authors' Python does: up to 30 full forward and backward passes
over a left-padded batch of twelve rows (the twelfth, an unrelated prompt, is carried along and not used) with logits at
every position, in float32, a dense gradient and optimiser pass over the whole residual weight, masks kept as booleans and
multiplied as floats at every query, and one query at a time. Nothing is slowed down, and the sequences, the loss, the
masks and the stopping rule are the authors', those of `memoir_fast` with `recipe="published"`: a loss is divided by n + 1,
because their mask of the n target tokens begins one position early, and the stop looks at the last two recorded losses, one
step and one forward pass later than a test on the new one.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.library import settled

UNRELATED = "The capital of a country is the city where its government meets."


class PublishedLayer(nn.Module):
    """`base(x) + W_m (mask * x)` with W_m (d, D) a trainable dense matrix and one mask (D,) for all rows."""

    def __init__(self, base: nn.Module, in_features: int, out_features: int):
        super().__init__()
        self.base = base
        self.new_weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.mask: torch.Tensor | None = None  # None: the base layer alone
        self.seen: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x.detach()
        if self.mask is None:
            return self.base(x)
        return self.base(x) + F.linear(x * self.mask, self.new_weight)


@dataclass(frozen=True)
class Edited:
    """What one edit did: the loss before each step (and the one after the last), that last one, the steps made, wall seconds."""

    losses: list[float]
    final: float
    steps: int
    seconds: float


class PublishedEditor:
    """The published editor on a base model, with the settings, contexts, background and permutation of a `MemoirModel`.

    Args:
        model: a base model of its own (not the one that `like` has its memory on).
        like: the `MemoirModel` whose settings it takes over; its edits are not.

    Raises:
        ValueError: `like` is not made with recipe="published", so its learning rate and texts need not be the authors'.
    """

    def __init__(self, model, like):
        if like.config.recipe != "published":
            raise ValueError(f"like: the published editor needs recipe='published', got {like.config.recipe!r}")
        self.model, self.config, self.encoder, self.contexts = (
            model.eval(),
            like.config,
            like.encoder,
            list(like.contexts),
        )
        self.background = like.memory.background.clone()
        self.permutation = like.memory.permutation.long().clone()
        self.device = like.memory.background.device
        target = like.target
        parent, _, name = target.path.rpartition(".")
        self._parent, self._name = model.get_submodule(parent), name
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        layer = PublishedLayer(model.get_submodule(target.path), target.in_features, target.out_features)
        self.layer = layer.to(self.device)
        setattr(self._parent, name, self.layer)
        self.masks = torch.zeros(0, target.in_features, dtype=torch.bool, device=self.device)
        self.threshold = like.config.threshold

    # ---- masks ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def mask_of(self, words: list[int]) -> torch.Tensor:
        """(D,) bool: TopHash of a prompt's tokens, one prompt at a time."""
        with self._masked(None):
            self.model(input_ids=torch.tensor([words], device=self.device))
        feature = self.layer.seen.reshape(len(words), -1).mean(0) - self.background
        mask = torch.zeros(len(feature), dtype=torch.bool, device=self.device)
        mask[self.permutation[feature.abs().topk(self.config.top_k).indices]] = True
        return mask

    def match(self, mask: torch.Tensor) -> tuple[int, float]:
        """The stored edit with the largest overlap (-1: none stored), by a product of floats with all masks."""
        if not len(self.masks):
            return -1, 0.0
        overlaps = (self.masks.float() @ mask.float()) / self.config.top_k
        best = int(overlaps.argmax())
        return best, float(overlaps[best])

    def route(self, words: list[int]) -> torch.Tensor | None:
        """(D,) float: the mask of the edit that a prompt of these tokens reads; None if it reads none."""
        best, overlap = self.match(self.mask_of(words))
        return self.masks[best].float() if best >= 0 and overlap >= self.threshold else None

    # ---- editing -------------------------------------------------------------------------------------------------

    def edit(self, prompt: str, target: str) -> Edited:
        """One edit, stored."""
        began = time.perf_counter()
        config = settled(self.config)
        sequences = [self.encoder.pair(prompt, target), *(self.encoder.pair(prompt, target, c) for c in self.contexts)]
        mask = self.mask_of(sequences[0].tokens[slice(*sequences[0].words)])
        inputs, labels = self._batch(sequences)
        optimizer = torch.optim.SGD(
            [self.layer.new_weight], lr=config.edit_lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        losses: list[float] = []  # recorded: one a step
        steps = 0
        with self._masked(mask.float()):
            while steps < config.steps:
                loss = self._loss(self.model(**inputs, use_cache=False).logits, labels)
                if (
                    len(losses) > 1
                    and losses[-1] <= config.stop_loss
                    and abs(losses[-1] - losses[-2]) <= config.stop_delta
                ):
                    break
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_([self.layer.new_weight], config.clip_norm)
                optimizer.step()
                losses.append(loss.item())
                steps += 1
            seconds, final = time.perf_counter() - began, loss.item()
            if steps == config.steps:  # what the last step did; no part of the published work, so not of its time
                with torch.no_grad():
                    final = self._loss(self.model(**inputs, use_cache=False).logits, labels).item()
        self.masks = torch.cat([self.masks, mask[None]])
        return Edited([*losses, final], final, steps, seconds)

    def _batch(self, sequences) -> tuple[dict, torch.Tensor]:
        """The twelve rows padded on the left, and labels (12, T): -100 but at the target's tokens of the first eleven."""
        rows = [sequence.tokens for sequence in sequences] + [self.encoder.prompt(UNRELATED).tokens]
        width = max(map(len, rows))
        input_ids = torch.zeros(len(rows), width, dtype=torch.int64)
        attention, labels = torch.zeros_like(input_ids), torch.full_like(input_ids, -100)
        for row, tokens in enumerate(rows):
            input_ids[row, width - len(tokens) :] = torch.tensor(tokens)
            attention[row, width - len(tokens) :] = 1
        for row, sequence in enumerate(sequences):
            aims = sequence.tokens[sequence.prompt_length :]
            labels[row, width - len(aims) :] = torch.tensor(aims)
        places = (attention.cumsum(1) - 1).clamp(
            min=0
        )  # models with learned positions need them counted from the first token
        inputs = {"input_ids": input_ids, "attention_mask": attention, "position_ids": places}
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}, labels.to(self.device)

    @staticmethod
    def _loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The sum over the target's n tokens over n + 1, then the mean over the sequences."""
        shifted, aims = logits[:, :-1], labels[:, 1:]
        losses = F.cross_entropy(
            shifted.reshape(-1, shifted.shape[-1]), aims.reshape(-1), reduction="none", ignore_index=-100
        )
        counts = (aims != -100).sum(1)
        used = counts > 0
        return (losses.view(aims.shape).sum(1)[used] / (counts[used] + 1)).mean()

    # ---- reading -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def logits(self, sequence, disabled: bool = False) -> torch.Tensor:
        """(T, V) logits of one sequence; its prompt's words decide whether and which edit is read."""
        mask = None if disabled else self.route(sequence.tokens[slice(*sequence.words)])
        with self._masked(mask):
            return self.model(input_ids=torch.tensor([sequence.tokens], device=self.device), use_cache=False).logits[0]

    def accuracy(self, pairs: list[tuple[str, str]]) -> float:
        """Mean share of target tokens that are the argmax, one pair at a time (teacher-forced)."""
        shares = []
        for prompt, target in pairs:
            sequence = self.encoder.pair(prompt, target)
            aims = torch.tensor(sequence.tokens[sequence.prompt_length :], device=self.device)
            predicted = self.logits(sequence)[sequence.prompt_length - 1 : -1].argmax(-1)
            shares.append(float((predicted == aims).float().mean()))
        return sum(shares) / len(shares)

    def locality(self, pairs: list[tuple[str, str]]) -> float:
        """Mean share of the answers' positions where the argmax is the unedited model's."""
        shares = []
        for prompt, answer in pairs:
            sequence = self.encoder.pair(prompt, answer)
            span = slice(sequence.prompt_length - 1, -1)
            edited, base = (self.logits(sequence, disabled)[span].argmax(-1) for disabled in (False, True))
            shares.append(float((edited == base).float().mean()))
        return sum(shares) / len(shares)

    @contextlib.contextmanager
    def _masked(self, mask):
        before, self.layer.mask = self.layer.mask, mask
        try:
            yield
        finally:
            self.layer.mask = before

    def detach(self):
        """The base model as it was."""
        setattr(self._parent, self._name, self.layer.base)
        return self.model
