"""The settings of a memory: one frozen, validated dataclass, stored as JSON."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import asdict, dataclass, fields, replace

FORMAT_VERSION = 1
# What each update rule takes for the settings that are None: the published values, and those that kept most edits over long
# streams in the fewest steps (benchmarks/results/quality.md).
RECIPES = {
    "sgd": {"edit_lr": 3.0, "momentum": 0.0, "weight_decay": 1e-5, "stop_delta": 1e-4},
    "preconditioned": {"edit_lr": 6.0, "momentum": 0.8, "weight_decay": 0.0, "stop_delta": 1.0},
}
# Settings that a memory is made with and keeps.
SHAPING = ("layer", "top_k", "chat_template", "write", "feature")
PRECISIONS = ("exact", "fast")
FEATURES = ("mean_decentered", "rare_decentered", "mean", "last")


@dataclass(frozen=True)
class MemoirConfig:
    """Settings of one residual memory and of the edits written to it.

    Args:
        layer: which FFN down projection carries the memory: None (27/32 of the depth, the paper's choice), a decoder
            layer's number (negative ones count from the end), or a dotted module path
            (`model.layers.27.mlp.down_proj`; `model.layers[27].mlp.down_proj.weight` means the same).
        top_k: active features per mask; None takes the multiple of 8 nearest to 2D/7 (the paper's ratio).
        threshold: smallest overlap (0..1) at which a query reads the memory; None calibrates one for each edit (see
            `false_activation_rate`) and keeps them calibrated as edits accumulate.
        false_activation_rate: largest chance that an unrelated prompt reads the memory, for calibrated thresholds.
        edit_lr: learning rate of the SGD on the memory.
        momentum: of the SGD, 0 for none.
        steps: most SGD steps for one edit.
        clip_norm: Frobenius norm to which the gradient is clipped.
        weight_decay: shrinks the whole memory by `1 - edit_lr * weight_decay` at each step: plain forgetting of the oldest edits.
        stop_loss, stop_delta: an edit stops early when its loss is <= stop_loss and moved by <= stop_delta.
        write: the update rule; "sgd" is the published one, "preconditioned" steps around what earlier edits read, see
            `write.py`.
        ridge: with write="preconditioned", how strongly free directions resist too, in units of a token's mean energy.
        precision: "exact" optimises in the model's own dtype; "fast" runs the layers above the memory in bfloat16 on
            devices with units for it, and for Llama-like models lets only the likeliest tokens compete in most steps.
        feature: what a prompt is hashed by: "mean_decentered" (the mean of its tokens less the background, the paper's), "rare_decentered"
            (the same with rare tokens up, see `tophash.rarity`: it tells edits of one wording and different subjects apart), "mean"
            (without the background) or "last" (its last token).
        chat_template: prompts are a user's words, put into the tokenizer's chat template for editing and asking.
        batch_size: rows per forward pass in measuring and calibrating.

    `edit_lr`, `momentum`, `weight_decay` and `stop_delta` depend on the update rule: None takes its own, see `RECIPES`.

    Source: MEMOIR (Wang et al., NeurIPS 2025), sections 3 and 4 and its published settings.
    """

    layer: int | str | None = None
    top_k: int | None = None
    threshold: float | None = None
    false_activation_rate: float = 0.005
    edit_lr: float | None = None
    momentum: float | None = None
    steps: int = 30
    clip_norm: float = 1.0
    weight_decay: float | None = None
    stop_loss: float = 0.02
    stop_delta: float | None = None
    write: str = "preconditioned"
    ridge: float = 1.0
    precision: str = "exact"
    feature: str = "mean_decentered"
    chat_template: bool = False
    batch_size: int = 16

    def __post_init__(self):
        if self.layer is not None and (isinstance(self.layer, bool) or not isinstance(self.layer, (int, str))):
            raise TypeError(f"layer must be None, an int or a dotted module path, got {self.layer!r}")
        if self.top_k is not None:
            _integer("top_k", self.top_k, 1)
        _integer("steps", self.steps, 1)
        _integer("batch_size", self.batch_size, 1)
        if self.threshold is not None:
            _number("threshold", self.threshold, 0.0, 1.0)
        _number("false_activation_rate", self.false_activation_rate, 0.0, 1.0)
        choices = {"write": tuple(RECIPES), "precision": PRECISIONS, "feature": FEATURES}
        for name, value, legal in ((name, getattr(self, name), legal) for name, legal in choices.items()):
            if value not in legal:
                raise ValueError(f"{name} must be one of {legal}, got {value!r}")
        for name, value in RECIPES[self.write].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in ("edit_lr", "clip_norm", "weight_decay", "momentum"):
            _number(name, getattr(self, name), 0.0, math.inf)
        _number("ridge", self.ridge, 0.0, math.inf)
        _number("stop_loss", self.stop_loss, 0.0, math.inf)
        _number("stop_delta", self.stop_delta, 0.0, math.inf)
        if self.edit_lr <= 0 or self.clip_norm <= 0:
            raise ValueError(f"edit_lr and clip_norm must be > 0, got {self.edit_lr!r} and {self.clip_norm!r}")
        if self.ridge == 0:
            raise ValueError("ridge must be > 0, got 0: directions that no edit has read would move without bound")
        if self.momentum >= 1:
            raise ValueError(f"momentum must be < 1, got {self.momentum!r}: the steps would add up without bound")
        if self.edit_lr * self.weight_decay >= 1:
            raise ValueError(
                f"weight_decay must be < 1 / edit_lr, got {self.weight_decay!r} at edit_lr {self.edit_lr!r}: one step "
                "would erase the memory or turn its sign"
            )
        if not isinstance(self.chat_template, bool):
            raise TypeError(f"chat_template must be True or False, got {self.chat_template!r}")

    def to_json(self) -> str:
        """The settings as a JSON object."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    @classmethod
    def from_dict(cls, values: dict) -> MemoirConfig:
        """Settings from a mapping; keys that this version does not know are dropped with a warning naming them."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            warnings.warn(
                f"MemoirConfig: dropped unknown settings {unknown} (written by a newer version?)", stacklevel=2
            )
        return cls(**{key: value for key, value in values.items() if key in known})

    def reopened(self, settings: dict) -> MemoirConfig:
        """A copy with some settings changed, for a memory that was stored with these: those that it was made with must stay.

        Raises:
            ValueError: one of `SHAPING` would change.
        """
        for name in settings.keys() & set(SHAPING):
            if settings[name] != getattr(self, name):
                raise ValueError(
                    f"{name}: the memory was stored with {getattr(self, name)!r}, it cannot be {settings[name]!r}"
                )
        return self.updated(**settings)

    def for_edit(self, settings: dict) -> MemoirConfig:
        """A copy with some settings changed, for a single edit.

        Raises:
            ValueError: a setting belongs to the whole memory.
        """
        fixed = {*SHAPING, "threshold", "false_activation_rate"} & settings.keys()
        if fixed:
            raise ValueError(f"{sorted(fixed)} cannot change for a single edit: they belong to the whole memory")
        return self.updated(**settings)

    def updated(self, **changes) -> MemoirConfig:
        """A copy with some settings changed (validated again)."""
        return replace(self, **changes)


def default_top_k(dimension: int) -> int:
    """The multiple of 8 nearest to 2D/7 (4096 of 14336, the published ratio), within 1..D."""
    return min(dimension, max(8, 8 * round(2 * dimension / 7 / 8)))


def default_layer(depth: int) -> int:
    """27/32 of the depth, rounded: layer 27 of 32, the published choice."""
    return min(depth - 1, round(27 * depth / 32))


def _integer(name, value, least):
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be >= {least}, got {value}")


def _number(name, value, least, most):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (least <= value <= most) or math.isinf(value):
        raise ValueError(f"{name} must be a finite number in [{least}, {most}], got {value!r}")
