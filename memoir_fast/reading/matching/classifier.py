"""Small networks on a pair's features; fitting takes seconds and gives the same result for the same data and seed."""

from __future__ import annotations

import numpy as np
import torch

MEMBERS = 15
BATCH = 4096  # pairs


class Classifier:
    """The probability that a query asks for a stored prompt: the mean of a few networks with one hidden layer of tanh
    units.

    Having several networks and a strong decay was worth 2 to 10 points of recall on other authors' data.

    Args:
        state: float tensors: the features' mean (F,) and scale (F,); and of E networks with H hidden units w1 (E, F,
            H), b1 (E, H), w2 (E, H) and b2 (E,).
    """

    def __init__(self, state: dict[str, torch.Tensor]):
        self.state = state
        # In float64: a product in float32 depends on how many pairs are compared together, and on the machine.
        self._numpy = {name: tensor.double().numpy() for name, tensor in state.items()}

    @classmethod
    def fit(cls, features: np.ndarray, labels: np.ndarray, weights: np.ndarray, hidden: int = 24, steps: int = 300, decay: float = 1e-3, seed: int = 0,
            members: int = MEMBERS) -> Classifier:  # fmt: skip
        """Fit by Adam on the weighted logistic loss, in batches.

        Args:
            features: (N, F).
            labels: (N,) 0 or 1.
            weights: (N,) each pair's importance.
            hidden: units in the hidden layer.
            steps: the number of batches; all pairs are seen once before any is seen again.
            decay: factor of the squared weights in the loss.
            seed: of the starting weights and the order of the pairs.
            members: the number of networks, each with its own start.
        """
        x = torch.as_tensor(np.asarray(features)).float()
        y, w = torch.as_tensor(np.asarray(labels)).float(), torch.as_tensor(np.asarray(weights)).float()
        mean, scale = x.mean(0), x.std(0).clamp(min=1e-3)
        x = ((x - mean) / scale).clamp(-5, 5)
        state = _networks(x, y, w / w.mean(), hidden, steps, decay, seed, members)
        return cls({"mean": mean, "scale": scale} | state)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Features (C, F) to probabilities (C,) float64."""
        s = self._numpy
        x = np.clip((np.asarray(features, np.float64) - s["mean"]) / s["scale"], -5, 5)
        z = (np.tanh(x @ s["w1"] + s["b1"][:, None]) * s["w2"][:, None]).sum(2) + s["b2"][:, None]
        return (1 / (1 + np.exp(-z))).mean(0)


def _networks(
    x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, hidden: int, steps: int, decay: float, seed: int, members: int
) -> dict[str, torch.Tensor]:
    """w1 (E, F, H), b1 (E, H), w2 (E, H), b2 (E,) of E networks that see the same batches. w: (N,), 1 on average."""
    generator = torch.Generator().manual_seed(seed)
    w1 = (torch.randn(members, x.shape[1], hidden, generator=generator) / x.shape[1] ** 0.5).requires_grad_()
    w2 = (torch.randn(members, hidden, generator=generator) / hidden**0.5).requires_grad_()
    b1, b2 = torch.zeros(members, hidden, requires_grad=True), torch.zeros(members, requires_grad=True)
    parameters = {"w1": w1, "b1": b1, "w2": w2, "b2": b2}
    optimizer = torch.optim.Adam(parameters.values(), lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    batches: list[torch.Tensor] = []
    for _ in range(steps):
        batches = batches or list(torch.randperm(len(x), generator=generator).split(BATCH))
        at = batches.pop()
        z = (torch.tanh(x[at] @ w1 + b1[:, None]) * w2[:, None]).sum(2) + b2[:, None]
        losses = torch.nn.functional.binary_cross_entropy_with_logits(z, y[at].expand_as(z), reduction="none")
        loss = (losses * w[at]).mean(1).sum() + decay * ((w1**2).sum() + (w2**2).sum())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}
