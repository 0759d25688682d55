"""The published update as plainly as it can be written: full passes, a dense W_m, torch's own SGD (MEMOIR, section 3)."""

from __future__ import annotations

import torch
from torch import nn

from memoir_fast.editing.update_rule import settled


class DenseMemory(nn.Module):
    """`base(x) + (mask * x) @ W_m^T` for every token, with W_m (d, D) a trainable dense matrix."""

    def __init__(self, base: nn.Module, in_features: int, out_features: int):
        super().__init__()
        self.base = base
        self.W_m = nn.Parameter(torch.zeros(out_features, in_features))
        self.mask = torch.zeros(in_features)
        self.seen = None

    def forward(self, x):
        self.seen = x
        return self.base(x) + (x * self.mask) @ self.W_m.T


def plain_edit(model, memory: DenseMemory, sequences, background, permutation, config) -> list[float]:
    """One edit; returns the loss before each step. Sequences as `Encoder.pair` gives them, the identity first."""
    config = settled(config)
    with torch.no_grad():
        identity = sequences[0]
        model(input_ids=torch.tensor([identity.tokens[: identity.prompt_length]]))
        feature = memory.seen.reshape(identity.prompt_length, -1).mean(0) - background
        memory.mask.zero_()
        memory.mask[permutation.long()[feature.abs().topk(config.top_k).indices]] = 1
    optimizer = torch.optim.SGD(
        [memory.W_m], lr=config.edit_lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    width = max(len(sequence.tokens) for sequence in sequences)  # padding on the right, where causality hides it
    tokens = torch.tensor([sequence.tokens + [0] * (width - len(sequence.tokens)) for sequence in sequences])
    losses = []
    for _ in range(config.steps):
        logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits.float()
        terms = []
        for row, sequence in enumerate(sequences):
            start, end = sequence.prompt_length, len(sequence.tokens)
            target = torch.tensor(sequence.tokens[start:])
            terms.append(nn.functional.cross_entropy(logits[row, start - 1 : end - 1], target))
        loss = torch.stack(terms).mean()
        losses.append(loss.item())
        if len(losses) > 1 and losses[-1] <= config.stop_loss and abs(losses[-1] - losses[-2]) <= config.stop_delta:
            break
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([memory.W_m], config.clip_norm, error_if_nonfinite=True)
        optimizer.step()
    return losses
