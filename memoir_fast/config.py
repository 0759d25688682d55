"""The settings of a memory: a frozen, validated dataclass that is stored as JSON. Each field carries its help text."""

from __future__ import annotations

import difflib
import json
import math
import re
import sys
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from .errors import quoted

# Settings that are fixed when a memory is made.
SHAPING = (
    "layer",
    "top_k",
    "masks",
    "page_edits",
    "chat_template",
    "question_template",
    "acts",
    "write",
    "feature",
    "seed",
    "tuned",
)
ENDS = ("auto", "eos", "none")
WRITES = ("sgd", "preconditioned")
RECIPES = ("own", "published")
PRECISIONS = ("exact", "fast")
FEATURES = ("mean_decentered", "mean", "last")
_LARGEST = (1 << 53) - 1  # the largest whole number accepted; nothing here counts further
ROUTERS = ("tokens", "mask")
ACTS = ("answer", "all")
MASKS = ("prompt", "spread")


def _setting(default: Any, text: str, least: float | None = None, most: float = math.inf, choices: tuple = ()) -> Any:
    """A field with its help text and the values it accepts: numbers from `least` to `most`, or one of `choices`."""
    return field(default=default, metadata={"help": text, "least": least, "most": most, "choices": choices})


@dataclass(frozen=True)
class MemoirConfig:
    """Settings of one residual memory and of the edits written to it. `help_of(name)` explains a field.

    `edit_lr`, `momentum`, `weight_decay` and `stop_delta` stay None unless the user sets them; the update rule that
    `write` names then uses its own values (`editing/rules.py`). `write` is filled in here when the user leaves it open.
    So is whatever the authors' code fixes, with `recipe="published"`: plain text without an end, one space before the
    target, all ten contexts.

    Raises:
        TypeError, ValueError: a value has the wrong type or is outside the accepted range; the message names the field
            and the value.

    Source: MEMOIR (Wang et al., NeurIPS 2025), sections 3 and 4 and its published settings.
    """

    layer: int | str | None = _setting(
        None,
        "which FFN down projection the memory is attached to: none (27/32 of the depth, the paper's choice), a decoder layer's number "
        "(negative ones count from the end), or a dotted module path (model.layers.27.mlp.down_proj)",
    )
    top_k: int | None = _setting(
        None,
        "active features per mask; none uses the multiple of 8 nearest to 2D/7, the paper's ratio, with masks=prompt, and nearest to D/10 with "
        "masks=spread",
        1,
    )
    masks: str | None = _setting(
        None,
        "which features of the memory an edit writes to: prompt takes those that its prompt's activations choose (TopHash, the published rule), "
        "spread those that the fewest stored edits use, which needs router=tokens; none uses spread in a chat with router=tokens, otherwise prompt",
        choices=MASKS,
    )
    page_edits: int | None = _setting(
        None,
        "how many edits share a page of the memory, which is a residual weight of its own: the next edit begins another one, so that early edits do "
        "not fade however many follow; 0 keeps all of them in one page; none uses D/12 with masks=spread, otherwise 0",
        0,
    )
    router: str = _setting(
        "tokens",
        "how a query finds the edit that it reads: tokens compares the query's words with those of the stored questions, mask compares "
        "the masks of whole prompts (the published rule)",
        choices=ROUTERS,
    )
    threshold: float | None = _setting(
        None,
        "smallest score (0 to 1) at which a query reads an edit; with router=tokens the score says how likely the query asks for the edit, "
        "with router=mask it is the overlap of the masks; none calibrates the threshold and keeps it calibrated",
        0,
        1,
    )
    false_activation_rate: float = _setting(
        0.005, "for calibrated thresholds: largest chance that an unrelated prompt reads the memory", 0, 1
    )
    edit_lr: float | None = _setting(
        None,
        "learning rate of the SGD on the memory; none uses the update rule's: sgd has a fixed one, preconditioned adapts the length of its steps",
        0,
    )
    momentum: float | None = _setting(None, "momentum of the SGD, 0 switches it off; none uses the update rule's", 0)
    steps: int = _setting(30, "largest number of SGD steps for one edit", 1)
    clip_norm: float = _setting(1.0, "Frobenius norm to which the gradient is clipped", 0)
    weight_decay: float | None = _setting(
        None,
        "multiplies the whole memory by 1 - edit_lr * weight_decay at each step, so the oldest edits fade; none uses the "
        "update rule's",
        0,
    )
    stop_loss: float = _setting(0.02, "an edit stops early when its loss is at most this and has settled", 0)
    stop_token_loss: float | None = _setting(
        None,
        "an edit stops early only when no target token has a loss above this, in any text that it is trained on: one wrong token makes another "
        "answer; none uses 0.1 (a probability of 0.9) in a chat, 0.03 for tokens with a digit, and asks nothing of single tokens in plain text",
        0,
    )
    stop_delta: float | None = _setting(
        None, "a loss has settled when it changed by at most this in a step; none uses the update rule's", 0
    )
    write: str | None = _setting(
        None,
        "the update rule: sgd is the published one, preconditioned avoids directions that earlier edits read; none uses preconditioned, or "
        "sgd with recipe=published",
        choices=WRITES,
    )
    recipe: str = _setting(
        "own",
        "whose optimisation: own divides a sequence's loss by its n target tokens and stops on the loss just found; published follows the "
        "authors' code, which divides by n + 1 and decides on stopping from the last two recorded losses, one step later; settings that are left "
        "open then take the authors' values (learning rate 1.0, plain text, ten contexts, no end of the answer)",
        choices=RECIPES,
    )
    ridge: float = _setting(
        1.0,
        "with write=preconditioned: how much even directions that no edit reads resist a step, in units of a token's mean energy",
        0,
    )
    precision: str = _setting(
        "exact",
        "exact optimises in the model's own dtype; fast runs the layers above the memory in bfloat16 on devices with hardware support for it, "
        "and for Llama-like models computes the loss of most steps over the likeliest tokens only",
        choices=PRECISIONS,
    )
    feature: str = _setting(
        "mean_decentered",
        "what a prompt's mask is computed from: mean_decentered (the mean over its tokens minus the background, as in the paper), mean "
        "(the mean alone) or last (its last token)",
        choices=FEATURES,
    )
    chat_template: bool | None = _setting(
        None,
        "prompts are a user's words and are put into the tokenizer's chat template for editing and asking; none does so if there is one",
    )
    question_template: bool = _setting(
        False,
        "for base models, whose tokenizers have no chat template: prompts are put into one of the library's, a line with the question and one "
        "with Answer:, and everything goes as in a chat",
    )
    template_options: dict | None = _setting(  # noqa: RUF009  (the annotation is mutable, its default is None)
        None,
        "a JSON object passed to the chat template (enable_thinking, date_string, ...); the key system sets a system message",
    )
    acts: str | None = _setting(
        None,
        "at which tokens the memory adds to its projection's output: answer begins at the question's last token, so that an edit is written for "
        "fewer tokens and disturbs other edits less; all is every token, the published rule; none uses answer in a chat and all in plain text",
        choices=ACTS,
    )
    end: str = _setting(
        "auto",
        "which token ends an answer: auto is the end of turn in a chat and the end of text otherwise, eos is the end of text, none adds no token",
        choices=ENDS,
    )
    joiner: str = _setting(
        "auto",
        "what is put between a plain prompt and its target: auto is one space, or nothing after an opening quote, a hyphen or a "
        "currency sign and in scripts written without spaces; any other value is itself the text",
    )
    contexts: int | None = _setting(
        None,
        "after how many of the model's ten short contexts an edit is also trained; none uses 0 in a chat, where the answer always "
        "follows the same header, and 10 in plain text",
        0,
    )
    wordings: int | None = _setting(
        None,
        "on how many wordings made from its prompt an edit is also trained: the first is the prompt's bare keywords (unless it has no "
        "other words), then a request; none uses 2 in a chat and 0 in plain text",
        0,
        2,
    )
    train_rephrasings: bool = _setting(
        False,
        "also trains an edit on its rephrasings, instead of only finding it by them: slower, for wordings that find the edit but do not give its answer",
    )
    retries: int = _setting(
        0,
        "how often an edit that has not converged is trained again before it is kept, each time with twice the steps",
        0,
    )
    seed: int = _setting(
        0, "the random seed of TopHash's permutation and of the rotation of wide models' word codes", 0
    )
    tuned: str | None = _setting(
        None,
        "where settings that are left open (layer, contexts, edit_lr) come from: a file of `memoir-fast tune`, or off for the defaults; with "
        "none, `from_pretrained` and the command line use what tune stored for this model in the user's cache, if anything",
    )
    batch_size: int = _setting(16, "rows per forward pass when measuring and calibrating", 1)
    memory_device: str | None = _setting(
        None,
        'where the memory\'s weights are kept: None beside the projection, or "cpu", from where a GPU gets the rows that a prompt or an edit reads',
        choices=(None, "cpu"),
    )

    def __post_init__(self) -> None:
        self._check_values()
        if self.recipe == "published":
            self._fill_in_as_published()
        elif self.write is None:
            object.__setattr__(self, "write", "preconditioned")
        if self.question_template and self.chat_template is False:
            raise ValueError(
                "question_template is a chat template: leave chat_template out, or leave question_template out for plain text"
            )

    def _fill_in_as_published(self) -> None:
        """Fill in what the authors' code fixes, wherever the user left it open."""
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
            ("masks", None, "prompt"),
            ("page_edits", None, 0),
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
        if not isinstance(self.question_template, bool):
            raise TypeError(f"question_template must be True or False, got {quoted(self.question_template)}")
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
        if self.masks == "spread" and self.router == "mask":
            raise ValueError(
                "masks='spread' needs router='tokens': with router='mask' an edit is found by the mask that its prompt makes"
            )
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
        """Settings from a mapping. Keys that this version does not know are dropped, with a warning that names them.

        Raises:
            TypeError, ValueError: as the constructor.
        """
        known = {f.name for f in fields(cls)}
        # Files older than these settings: edits were then found by their masks, the prompts', and acted at every token.
        values = {"router": "mask", "acts": "all", "masks": "prompt", "page_edits": 0, **values}
        unknown = sorted(str(name)[:40] for name in set(values) - known)
        if unknown:
            warnings.warn(
                f"MemoirConfig: dropped unknown settings {quoted(unknown)} (written by a newer version?)", stacklevel=2
            )
        return cls(**{key: value for key, value in values.items() if key in known})

    def reopened(self, settings: dict[str, Any]) -> MemoirConfig:
        """A copy with some settings changed, for opening a memory that was stored with these settings.

        Raises:
            TypeError: a setting is unknown.
            ValueError: a setting fixed when the memory was made (`SHAPING`) would change, or a value is not accepted.
        """
        check_names(settings)
        number = settings.get("layer")
        if type(number) is int and number == number_of_layer(self.layer):
            settings = {**settings, "layer": self.layer}  # the same layer, by its number
        for name in settings.keys() & set(SHAPING):
            if settings[name] != getattr(self, name):
                raise ValueError(
                    f"{name}: the memory was stored with {quoted(getattr(self, name))}, it cannot be {quoted(settings[name])}"
                )
        return self.updated(**settings)

    def for_edit(self, settings: dict[str, Any]) -> MemoirConfig:
        """A copy with some settings changed, for a single edit.

        Raises:
            TypeError: a setting is unknown.
            ValueError: a setting belongs to the whole memory, or a value is not accepted.
        """
        check_names(settings)
        fixed = {*SHAPING, "router", "threshold", "false_activation_rate", "memory_device"} & settings.keys()
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
        """A copy with some settings changed, validated again. Raises TypeError for an unknown setting, else as the
        constructor."""
        check_names(changes)
        return replace(self, **changes)


def check_names(settings: Iterable[str], also: Iterable[str] = ()) -> None:
    """Raise TypeError for an unknown setting, suggesting the nearest known name.

    Args:
        settings: the names to check.
        also: further names to accept.
    """
    known = [*MemoirConfig.__dataclass_fields__, *also]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(known)}"
            raise TypeError(f"unknown setting {name!r}: {hint}")


def number_of_layer(path: Any) -> int | None:
    """The decoder layer's number in the path of a projection (model.layers.27.mlp.down_proj); None where it has none, or this is no path."""
    found = re.search(r"\.(\d+)\.", path) if isinstance(path, str) else None
    return int(found[1]) if found else None


def help_of(name: str) -> str:
    """What a setting means, with its default."""
    found = MemoirConfig.__dataclass_fields__[name]
    return f"{found.metadata['help']} (default: {'none' if found.default is None else found.default})"


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
