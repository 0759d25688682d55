"""GRACE in short (Hartvigsen et al., NeurIPS 2023), as a peer: a codebook beside one layer.

Key: the layer's input at a prompt's last token. Value: what the layer puts out there instead, trained for the edit. A prompt reads
the nearest key if it is within that key's radius. A new key looks at the nearest one: with the same target, that one grows to take the
prompt in; with another target, the two share the distance between them. No perturbed values, no moving averages of keys.
"""

from __future__ import annotations

import torch


class Codebook:
    """Keys (n, D), values (n, d) and radii (n,) of a layer.

    Args:
        layer: the module whose output is replaced.
        radius: of a new key, Euclidean distance between inputs of the layer.
    """

    def __init__(self, layer: torch.nn.Module, radius: float):
        self.radius = radius
        self.keys: list[torch.Tensor] = []
        self.radii: list[float] = []
        self.targets: list[str] = []
        self.values: list[torch.Tensor] = []
        self.place = -1  # the position of the prompt's last token in the text that is run
        self.seen: torch.Tensor | None = None  # (D,) the layer's input there
        self.trained: torch.Tensor | None = None  # the value that an edit trains
        layer.register_forward_hook(self._replace)

    def _replace(self, layer, inputs, output):
        self.seen = inputs[0][0, self.place].detach().clone()
        value = self.trained if self.trained is not None else self._read()
        if value is None:
            return None
        output = output.clone()
        output[0, self.place] = value
        return output

    def _read(self) -> torch.Tensor | None:
        if not self.keys:
            return None
        nearest, distance = self.nearest(self.seen)
        return self.values[nearest] if distance <= self.radii[nearest] else None

    def nearest(self, key: torch.Tensor) -> tuple[int, float]:
        """The stored key next to this one, and how far it is."""
        distances = (torch.stack(self.keys) - key).norm(dim=1)
        nearest = int(distances.argmin())
        return nearest, float(distances[nearest])

    def add(self, key: torch.Tensor, target: str, width: int) -> int:
        """The entry that an edit of this key and target trains: an earlier one with this target that is near, or a new one."""
        radius = self.radius
        if self.keys:
            nearest, distance = self.nearest(key)
            if distance <= self.radius + self.radii[nearest]:
                if self.targets[nearest] == target:
                    self.radii[nearest] = max(self.radii[nearest], distance)
                    return nearest
                radius = distance / 2
                self.radii[nearest] = distance / 2 - 1e-5
        self.keys.append(key)
        self.radii.append(radius)
        self.targets.append(target)
        self.values.append(torch.rand(width))
        return len(self.keys) - 1
