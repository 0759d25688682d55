"""The authors' optimisation as plainly as it can be written: their denominator, their stop, torch's own SGD.

Written from the description of the method with their two corrections: a sequence's loss is the sum over its n target tokens divided by n + 1,
and the stop looks, before a step, at the last two losses that were recorded, to which the newest does not belong yet. The rates are theirs too;
nothing here asks the library for a setting.
"""

from __future__ import annotations

import torch
from torch import nn

from tests.support.oracle import DenseMemory

LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM, STEPS = 1.0, 1e-5, 1.0, 30
STOP_LOSS, STOP_DELTA = 0.02, 1e-4


def published_edit(model, memory: DenseMemory, prompt: list[int], target: list[int], contexts: list[list[int]], mask: torch.Tensor,
                   stop_loss: float = STOP_LOSS, stop_delta: float = STOP_DELTA) -> tuple[list[float], int]:  # fmt: skip
    """One edit of a dense memory; (the loss before each step and the last one computed, steps made).

    Args:
        prompt, target: tokens; contexts: the tokens of the ten short contexts that the prompt is put behind as well.
        mask: (D,) zeros and ones, of the prompt alone.
    """
    memory.mask.copy_(mask)
    rows = [[*context, *prompt, *target] for context in ([], *contexts)]
    width = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows])  # on the right, where causality hides it
    optimizer = torch.optim.SGD([memory.W_m], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    losses: list[float] = []
    recorded: list[float] = []
    for _ in range(STEPS):
        logits = model(input_ids=tokens).logits
        terms = []
        for line, row in enumerate(rows):
            start = len(row) - len(target)
            terms.append(
                nn.functional.cross_entropy(
                    logits[line, start - 1 : len(row) - 1], torch.tensor(target), reduction="sum"
                )
            )
        loss = torch.stack(terms).mean() / (len(target) + 1)
        losses.append(loss.item())
        if len(recorded) > 1 and recorded[-1] <= stop_loss and abs(recorded[-1] - recorded[-2]) <= stop_delta:
            break
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([memory.W_m], CLIP_NORM)
        optimizer.step()
        recorded.append(losses[-1])
    return losses, len(recorded)
