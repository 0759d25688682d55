"""Which update rule some settings name, and what it takes for what they leave open. Told without torch; `rules.py` carries it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from ..config import MemoirConfig


@dataclass(frozen=True)
class UpdateRule:
    """An update rule, and what it takes for the settings that the user left to it.

    Attributes:
        tracks: whether it needs the memory's record C of what earlier edits read.
        adapts: whether its step adapts itself (see `adaptive_rate`) where the user asked for no learning rate, momentum or decay.
        values: its own learning rate, momentum, weight decay and stop, for steps of a fixed rate.
    """

    tracks: bool
    adapts: bool
    values: dict[str, float]

    def settled(self, config: MemoirConfig) -> MemoirConfig:
        """The settings with this rule's values where the user chose nothing. `edit_lr` stays None where the step adapts itself."""
        values: dict[str, float | None] = dict(self.values)
        if self.adapts and config.edit_lr is None and not config.momentum and not config.weight_decay:
            values |= {"edit_lr": None, "momentum": 0.0}
        return config.updated(**{name: value for name, value in values.items() if getattr(config, name) is None})


# Plain SGD at the rate that suits a small model, and what kept most edits over long streams in the fewest steps (docs/results.md).
RULES = {
    "sgd": UpdateRule(False, False, {"edit_lr": 3.0, "momentum": 0.0, "weight_decay": 1e-5, "stop_delta": 1e-4}),
    "preconditioned": UpdateRule(True, True, {"edit_lr": 6.0, "momentum": 0.8, "weight_decay": 0.0, "stop_delta": 1.0}),
}

_PUBLISHED = UpdateRule(False, False, {"edit_lr": 1.0, "momentum": 0.0, "weight_decay": 1e-5, "stop_delta": 1e-4})


def rule_of(config: MemoirConfig) -> UpdateRule:
    """The update rule of some settings."""
    return _PUBLISHED if config.recipe == "published" else RULES[cast(str, config.write)]


def settled(config: MemoirConfig) -> MemoirConfig:
    """The settings with nothing left open: what an edit is made with. Raises ValueError as `MemoirConfig` does."""
    return rule_of(config).settled(config)
