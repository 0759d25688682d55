"""The settings of a memory: one frozen, validated dataclass, stored as JSON. Each field carries its help text."""

from __future__ import annotations

import difflib
import json
import math
import sys
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from .errors import quoted

# Settings that a memory is made with and keeps.
SHAPING = ("layer", "top_k", "chat_template", "acts", "write", "feature", "seed", "tuned")
ENDS = ("auto", "eos", "none")
WRITES = ("sgd", "preconditioned")
RECIPES = ("own", "published")
PRECISIONS = ("exact", "fast")
FEATURES = ("mean_decentered", "mean", "last")
_LARGEST = (1 << 53) - 1  # whole numbers beyond it are no count of anything
ROUTERS = ("tokens", "mask")
ACTS = ("answer", "all")


def _setting(default: Any, text: str, least: float | None = None, most: float = math.inf, choices: tuple = ()) -> Any:
    """A field with its help text and what it accepts: numbers from `least` to `most`, or one of `choices`."""
    return field(default=default, metadata={"help": text, "least": least, "most": most, "choices": choices})


@dataclass(frozen=True)
class MemoirConfig:
    """Settings of one residual memory and of the edits written to it. `help_of(name)` says what a field means.

    `edit_lr`, `momentum`, `weight_decay` and `stop_delta` are None unless the user chose them: the update rule that `write` names then
    takes its own (`editing/rules.py`). `write` itself, and with `recipe="published"` what the authors' code fixes (plain text without an
    end, one blank before the target, all ten contexts), are filled in here where the user left them open.

    Raises:
        TypeError, ValueError: a value of the wrong kind, or outside of what the field accepts; the message names both.

    Source: MEMOIR (Wang et al., NeurIPS 2025), sections 3 and 4 and its published settings.
    """

    layer: int | str | None = _setting(
        None,
        "which FFN down projection carries the memory: none (27/32 of the depth, the paper's choice), a decoder layer's number "
        "(negative ones count from the end), or a dotted module path (model.layers.27.mlp.down_proj)",
    )
    top_k: int | None = _setting(
        None, "active features per mask; none takes the multiple of 8 nearest to 2D/7, the paper's ratio", 1
    )
    router: str = _setting(
        "tokens",
        "how the edit is found that a query reads: tokens compares the query's words with those of the stored questions, mask compares "
        "the masks of whole prompts (the published rule)",
        choices=ROUTERS,
    )
    threshold: float | None = _setting(
        None,
        "smallest score (0 to 1) at which a query reads an edit: with router=tokens how likely it asks for the edit, with router=mask the "
        "overlap of the masks; none calibrates it and keeps it calibrated",
        0,
        1,
    )
    false_activation_rate: float = _setting(
        0.005, "largest chance that an unrelated prompt reads the memory, for calibrated thresholds", 0, 1
    )
    edit_lr: float | None = _setting(None, "learning rate of the SGD on the memory; none takes the update rule's", 0)
    momentum: float | None = _setting(None, "momentum of the SGD, 0 for none; none takes the update rule's", 0)
    steps: int = _setting(30, "most SGD steps for one edit", 1)
    clip_norm: float = _setting(1.0, "Frobenius norm to which the gradient is clipped", 0)
    weight_decay: float | None = _setting(
        None,
        "shrinks the whole memory by 1 - edit_lr * weight_decay at each step: plain forgetting of the oldest edits; none takes the "
        "update rule's",
        0,
    )
    stop_loss: float = _setting(0.02, "an edit stops early when its loss is at most this, and settled", 0)
    stop_delta: float | None = _setting(
        None, "a loss has settled when it moved by at most this in a step; none takes the update rule's", 0
    )
    write: str | None = _setting(
        None,
        "the update rule: sgd is the published one, preconditioned steps around what earlier edits read; none takes preconditioned, or "
        "sgd with recipe=published",
        choices=WRITES,
    )
    recipe: str = _setting(
        "own",
        "whose optimisation: own divides a sequence's loss by its n target tokens and stops on the loss just found; published is the "
        "authors' code, which divides by n + 1 and stops on the last two recorded losses, one step later, with their learning rate 1.0, "
        "plain text, ten contexts and no end of the answer wherever these are left open",
        choices=RECIPES,
    )
    ridge: float = _setting(
        1.0, "with write=preconditioned, how strongly free directions resist too, in units of a token's mean energy", 0
    )
    precision: str = _setting(
        "exact",
        "exact optimises in the model's own dtype; fast runs the layers above the memory in bfloat16 on devices with units for it, and "
        "for Llama-like models lets only the likeliest tokens compete in most steps",
        choices=PRECISIONS,
    )
    feature: str = _setting(
        "mean_decentered",
        "what a prompt's mask is made of: mean_decentered (the mean of its tokens less the background, the paper's), mean (without the "
        "background) or last (its last token)",
        choices=FEATURES,
    )
    chat_template: bool | None = _setting(
        None,
        "prompts are a user's words, put into the tokenizer's chat template for editing and asking; none does so where there is one",
    )
    template_options: dict | None = _setting(  # noqa: RUF009  (the annotation is mutable, its default is None)
        None,
        "a JSON object handed to the chat template (enable_thinking, date_string, ...); system is a system message",
    )
    acts: str | None = _setting(
        None,
        "at which tokens the memory adds to its projection: answer is from the question's last token on, so that an edit writes to the few "
        "features that its answer follows from and leaves those of other edits alone; all is the published rule; none takes answer in a "
        "chat and all in plain text",
        choices=ACTS,
    )
    end: str = _setting(
        "auto",
        "what an answer ends with: auto is the end of turn in a chat and the end of text otherwise, eos the end of text, none nothing",
        choices=ENDS,
    )
    joiner: str = _setting(
        "auto",
        "what stands between a plain prompt and its target: auto is one space, or nothing behind an opening quote, a hyphen or a "
        "currency sign and in scripts written without spaces; else the text itself",
    )
    contexts: int | None = _setting(
        None,
        "behind how many of the model's ten short contexts an edit is trained as well; none takes 0 in a chat, where the answer always "
        "follows the same header, and 10 in plain text",
        0,
    )
    wordings: int | None = _setting(
        None,
        "on how many wordings that are made from its prompt an edit is trained as well: the first is its bare keywords (unless it has no "
        "other words), then comes a request; none takes 2 in a chat and 0 in plain text",
        0,
        2,
    )
    train_rephrasings: bool = _setting(
        False,
        "an edit is trained on its rephrasings as well, not only found by them: slower, for wordings that do not give its answer",
    )
    retries: int = _setting(
        0, "how often an edit that has not converged is made anew before it is kept, each time with twice the steps", 0
    )
    seed: int = _setting(
        0, "what everything random is drawn with: TopHash's permutation, and the rotation of wide models' word codes", 0
    )
    tuned: str | None = _setting(
        None,
        "what gives the settings that are left open (layer, contexts, edit_lr): a file of `memoir-fast tune`, or off for the defaults; with "
        "none, `from_pretrained` and the command line take what tune stored for this model in the user's cache, if it did",
    )
    batch_size: int = _setting(16, "rows per forward pass in measuring and calibrating", 1)

    def __post_init__(self) -> None:
        self._check_values()
        if self.recipe == "published":
            self._fill_in_as_published()
        elif self.write is None:
            object.__setattr__(self, "write", "preconditioned")

    def _fill_in_as_published(self) -> None:
        """What the authors' code does in one way only, where the user left it open."""
        if self.write not in (None, "sgd"):
            raise ValueError(
                f"recipe='published' is plain SGD (write='sgd'), got write={quoted(self.write)}: leave write out, or take recipe='own'"
            )
        for name, left_open, theirs in (
            ("write", None, "sgd"),
            ("chat_template", None, False),
            ("end", "auto", "none"),
            ("joiner", "auto", " "),
            ("contexts", None, 10),
            ("acts", None, "all"),
            ("wordings", None, 0),
        ):
            if getattr(self, name) == left_open:
                object.__setattr__(self, name, theirs)

    def _check_values(self) -> None:
        if self.layer is not None and (isinstance(self.layer, bool) or not isinstance(self.layer, (int, str))):
            raise TypeError(f"layer must be None, an int or a dotted module path, got {quoted(self.layer)}")
        if not isinstance(self.train_rephrasings, bool):
            raise TypeError(f"train_rephrasings must be True or False, got {quoted(self.train_rephrasings)}")
        if not isinstance(self.chat_template, (bool, type(None))):
            raise TypeError(f"chat_template must be None, True or False, got {quoted(self.chat_template)}")
        if not isinstance(self.template_options, (dict, type(None))) or not isinstance(self.joiner, str):
            raise TypeError(
                f"template_options must be a dict and joiner a text, got {quoted(self.template_options)}, {quoted(self.joiner)}"
            )
        if self.tuned is not None and not (isinstance(self.tuned, str) and self.tuned.strip()):
            raise TypeError(f"tuned must be None, 'off' or a file's path as text, got {quoted(self.tuned)}")
        for f in fields(self):
            value, accepts = getattr(self, f.name), f.metadata
            if accepts["choices"] and value not in accepts["choices"] and not (value is None and "None" in str(f.type)):
                raise ValueError(f"{f.name} must be one of {accepts['choices']}, got {quoted(value)}")
            if accepts["least"] is not None and not (value is None and "None" in str(f.type)):
                check = _integer if str(f.type).startswith("int") else _number
                check(f.name, value, accepts["least"], accepts["most"])
        for name, why in (
            ("edit_lr", ""),
            ("clip_norm", ""),
            ("ridge", ": directions that no edit has read would move without bound"),
        ):
            if getattr(self, name) == 0:
                raise ValueError(f"{name} must be > 0, got 0{why}")
        if self.momentum is not None and self.momentum >= 1:
            raise ValueError(f"momentum must be < 1, got {quoted(self.momentum)}: the steps would add up without bound")
        if self.edit_lr is not None and self.weight_decay is not None and self.edit_lr * self.weight_decay >= 1:
            raise ValueError(
                f"weight_decay must be < 1 / edit_lr, got {quoted(self.weight_decay)} at edit_lr {quoted(self.edit_lr)}: one step "
                "would erase the memory or turn its sign"
            )

    def to_json(self) -> str:
        """The settings as a JSON object."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MemoirConfig:
        """Settings from a mapping; keys that this version does not know are dropped with a warning naming them."""
        known = {f.name for f in fields(cls)}
        # Settings from before edits were found by their words, and from before they could act on the answer alone.
        values = {"router": "mask", "acts": "all", **values}
        unknown = sorted(str(name)[:40] for name in set(values) - known)
        if unknown:
            warnings.warn(
                f"MemoirConfig: dropped unknown settings {quoted(unknown)} (written by a newer version?)", stacklevel=2
            )
        return cls(**{key: value for key, value in values.items() if key in known})

    def reopened(self, settings: dict[str, Any]) -> MemoirConfig:
        """A copy with some settings changed, for a memory that was stored with these: those that it was made with must stay.

        Raises:
            ValueError: one of `SHAPING` would change.
        """
        check_names(settings)
        for name in settings.keys() & set(SHAPING):
            if settings[name] != getattr(self, name):
                raise ValueError(
                    f"{name}: the memory was stored with {quoted(getattr(self, name))}, it cannot be {quoted(settings[name])}"
                )
        return self.updated(**settings)

    def for_edit(self, settings: dict[str, Any]) -> MemoirConfig:
        """A copy with some settings changed, for a single edit.

        Raises:
            ValueError: a setting belongs to the whole memory.
        """
        check_names(settings)
        fixed = {*SHAPING, "router", "threshold", "false_activation_rate"} & settings.keys()
        if fixed:
            raise ValueError(f"{sorted(fixed)} cannot change for a single edit: they belong to the whole memory")
        return self.updated(**settings)

    if not TYPE_CHECKING:  # which would then take every name for a setting

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"MemoirConfig has no attribute {name!r}: it holds a memory's settings. A model's configuration is that of the Hugging Face "
                "model, which of a MemoirModel is its attribute `model`"
            )

    def updated(self, **changes: Any) -> MemoirConfig:
        """A copy with some settings changed (validated again). Raises TypeError for a setting that there is none of."""
        check_names(changes)
        return replace(self, **changes)


def check_names(settings: Iterable[str], also: Iterable[str] = ()) -> None:
    """Raise TypeError, with the nearest name, for a setting that there is none of.

    Args:
        settings: names; also: other names that are accepted where these were given.
    """
    known = [*MemoirConfig.__dataclass_fields__, *also]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(known)}"
            raise TypeError(f"unknown setting {name!r}: {hint}")


def help_of(name: str) -> str:
    """What a setting means, with its default."""
    found = MemoirConfig.__dataclass_fields__[name]
    return f"{found.metadata['help']} (default: {'none' if found.default is None else found.default})"


def default_top_k(dimension: int) -> int:
    """The multiple of 8 nearest to 2D/7 (4096 of 14336, the published ratio), within 1..D."""
    return min(dimension, max(8, 8 * round(2 * dimension / 7 / 8)))


def default_layer(depth: int) -> int:
    """27/32 of the depth, rounded: layer 27 of 32, the published choice."""
    return min(depth - 1, round(27 * depth / 32))


def default_contexts(is_chat: bool) -> int:
    """How many short contexts an edit is trained behind: none in a chat, where the answer always follows the same header, else all ten."""
    return 0 if is_chat else 10


def default_wordings(is_chat: bool) -> int:
    """On how many made wordings an edit is trained: in plain text the contexts do what they do in a chat."""
    return 2 if is_chat else 0


def default_acts(is_chat: bool) -> str:
    """Where the memory acts: in a chat the answer's header stands between the question and the answer, and is the same for all wordings."""
    return "answer" if is_chat else "all"


def _integer(name: str, value: Any, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {quoted(value)}")
    if not least <= value <= min(most, _LARGEST):
        accepted = f">= {least}" if value < least else f"<= {min(most, _LARGEST)}"
        raise ValueError(f"{name} must be {accepted}, got {quoted(value)}")


def _number(name: str, value: Any, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {quoted(value)}")
    if not least <= value <= most or abs(value) > sys.float_info.max:
        raise ValueError(f"{name} must be a finite number in [{least}, {most}], got {quoted(value)}")
