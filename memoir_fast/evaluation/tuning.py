"""Finds the layer, the number of contexts and, for rules with a fixed rate, the learning rate that suit a model.

Each candidate edits the same few facts into its own memory and is judged by free generation. The settings are chosen
one after another. So few facts cannot distinguish close candidates; so among those at most one answer worse than the
best, the layer nearest to the default, the fewest contexts and the learning rate nearest to the update rule's are
chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ..base import tuned
from ..base.causal_lm import CausalLM, text_config
from ..base.fingerprint import identity
from ..base.projection import find_target
from ..config import MemoirConfig
from ..defaults import default_contexts, default_layer
from ..editing.update_rule import rule_of
from ..errors import EditError
from ..model import MemoirModel
from ..text.answers import begins_with, equals, first_sentence
from . import metrics
from .facts import Fact, load_facts
from .protocol import ANSWER_TOKENS, edit_all

_OFFSETS = (-4, -2, -1, 0, 1)  # layers tried around the default, in sixteenths of the depth
_CONTEXTS = {True: (0, 3), False: (0, 3, 10)}  # whether prompts are chats -> numbers tried
_RATES = (0.1, 0.3, 1.0)  # tried, as factors of the update rule's own learning rate
_ALIKE = 1  # candidates this many right answers apart count as equally good


@dataclass(frozen=True)
class Candidate:
    """The results of one choice of settings.

    Attributes:
        settings: the choice.
        reliability, generalization: the shares, 0..1, of edited prompts and of rephrasings that are answered with the
            target and nothing after it (with `end="none"`: whose first sentence begins with it).
        locality: the share of unrelated prompts that are answered as before, up to the first sentence end.
        seconds: mean wall time per edit.
        steps: mean number of steps per edit.
        right: the number of right answers.
        asked: the number of questions.
        failed: why its edits could not be made, or "".
    """

    settings: dict[str, int | float | None]
    reliability: float
    generalization: float
    locality: float
    seconds: float
    steps: float
    right: int
    asked: int
    failed: str = ""


@dataclass(frozen=True)
class Tuning:
    """What was tried and what was chosen.

    Attributes:
        rows: the candidates in the order in which they were tried.
        settings: the choice among `layer`, `contexts` and `edit_lr`; settings that the user fixed are not included.
        model: the base model's fingerprint.
        measured: how it was asked and edited, see `base/tuned.py`.
    """

    rows: list[Candidate]
    settings: dict[str, int | float]
    model: dict[str, Any]
    measured: dict[str, Any]

    def save(self, path: str | Path | None = None) -> Path:
        """Write the choice to a file and return its path. Raises OSError.

        Args:
            path: where to; it is then used by naming it in the setting `tuned`. None writes to the user's cache, where
                `MemoirModel.from_pretrained` and the command line find it for this model.
        """
        place = tuned.place_of(self.model, self.measured) if path is None else Path(path)
        tuned.save(place, self.model, self.measured, self.settings, [asdict(row) for row in self.rows])
        return place


def shipped_facts() -> list[Fact]:
    """The package's own eight invented facts for tuning; none of them is in the demo or in a benchmark."""
    with resources.as_file(resources.files("memoir_fast") / "data" / "tune.jsonl") as path:
        return load_facts(path)


def tune(
    model: CausalLM,
    tokenizer: Any,
    config: MemoirConfig | None = None,
    facts: Sequence[Fact] | None = None,
    layers: Iterable[int] | None = None,
    context_counts: Iterable[int] | None = None,
    background: Any = None,
    told: Callable[[Candidate], object] = lambda candidate: None,
) -> Tuning:
    """Find the settings that suit a model. Nothing is stored unless the result's `save` is called.

    Args:
        model, tokenizer: a Hugging Face causal language model and its tokenizer.
        config: the other settings. Of `layer`, `contexts` and `edit_lr`, those left open (None) are tried. Update rules
            that adapt their steps have no learning rate to find.
        facts: each with a rephrasing and an unrelated prompt; None takes `shipped_facts`.
        layers, context_counts: the values to try. None tries five layers around the default, and 0 and 3 contexts (in
            plain text also 10).
        background: see `MemoirModel`.
        told: called with each candidate as soon as it is measured.

    Raises:
        ValueError: there is nothing to find, there are no facts, a fact lacks a test question, no candidate could be
            edited, or the model has no such layer.
    """
    trial = _Trial(
        model, tokenizer, config or MemoirConfig(), list(shipped_facts() if facts is None else facts), background, told
    )
    usual = default_layer(text_config(model).num_hidden_layers)
    counts = sorted(_CONTEXTS[trial.measured["chat_template"]] if context_counts is None else context_counts)
    if trial.config.layer is None:
        tried = _layers(text_config(model).num_hidden_layers) if layers is None else layers
        # With the middle number of contexts: more take longer, and the best layer hardly depends on the number.
        middle = {"contexts": counts[(len(counts) - 1) // 2]} if trial.config.contexts is None and counts else {}
        trial.settle("layer", tried, lambda value: (abs(value - usual), value), middle)
    if trial.config.contexts is None:
        trial.settle("contexts", counts, lambda value: value)
    rule = rule_of(trial.config)
    if trial.config.edit_lr is None and not rule.adapts:
        own = rule.values["edit_lr"]
        trial.settle("edit_lr", [share * own for share in _RATES], lambda value: own - value)
    if not trial.chosen:
        raise ValueError(
            "config: layer and contexts are given, and the rule's steps adapt themselves: there is nothing to find"
        )
    return Tuning(trial.rows, trial.chosen, trial.model_identity, trial.measured)


class _Trial:
    """The candidates so far, and the settings chosen so far."""

    def __init__(self, model: CausalLM, tokenizer: Any, config: MemoirConfig, facts: list[Fact], background: Any,
                 told: Callable[[Candidate], object]):  # fmt: skip
        if not facts or not all(fact.rephrase and fact.unrelated for fact in facts):
            raise ValueError(
                "facts: give at least one, each with a rephrasing and an unrelated prompt (rephrase, unrelated)"
            )
        self.model, self.tokenizer, self.facts, self.background, self.told = model, tokenizer, facts, background, told
        self.config = config.updated(tuned=tuned.OFF)  # an earlier choice must not affect the measurement
        self.measured = tuned.measured_by(tokenizer, self.config)
        self.model_identity = identity(model, tokenizer, self.config.layer)
        self.rows: list[Candidate] = []
        self.chosen: dict[str, int | float] = {}
        self.before: list[str] | None = None

    def settle(
        self, name: str, values: Iterable[Any], rank: Callable[[Any], Any], beside: dict[str, Any] | None = None
    ) -> None:
        """Try the values of one setting and choose the one of lowest rank among those as good as the best.

        The settings chosen before are kept; `beside` holds further ones to try the values with. Raises ValueError if no
        value could be edited.
        """
        tried = [self._resolved({**self.chosen, **(beside or {}), name: value}) for value in values]
        found = {settings[name]: self._measured(settings) for settings in tried}
        made = {value: candidate for value, candidate in found.items() if not candidate.failed}
        if not made:
            why = next((candidate.failed for candidate in found.values()), "there is none to try")
            raise ValueError(f"{name}: no candidate could be edited: {why}")
        best = max(candidate.right for candidate in made.values())
        self.chosen[name] = min((v for v, candidate in made.items() if candidate.right >= best - _ALIKE), key=rank)

    def _resolved(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The values that these settings stand for in an edit."""
        config = self.config.updated(**settings)
        contexts = default_contexts(self.measured["chat_template"]) if config.contexts is None else config.contexts
        found = {"layer": find_target(self.model, config.layer).layer, "contexts": contexts}
        return found if config.edit_lr is None else {**found, "edit_lr": config.edit_lr}

    def _measured(self, settings: dict[str, Any]) -> Candidate:
        known = next((row for row in self.rows if row.settings == settings), None)
        if known is not None:
            return known
        # If the user named the layer by a path, the path is kept, because it says more than the number.
        layer = self.config.layer if self.config.layer is not None else settings["layer"]
        config = self.config.updated(**{**settings, "layer": layer})
        with MemoirModel(self.model, self.tokenizer, config, self.background) as memoir:
            self.rows.append(self._asked(memoir, settings))
        self.told(self.rows[-1])
        return self.rows[-1]

    def _asked(self, memoir: MemoirModel, settings: dict[str, Any]) -> Candidate:
        if self.before is None:
            self.before = self._answers(memoir, "unrelated")
        try:
            results = edit_all(memoir, self.facts, quiet=True)
        except EditError as error:
            return Candidate(settings, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 3 * len(self.facts), str(error))
        hit = _ended if memoir.encoder.end_ids else _begun
        edited, reworded = (sum(map(hit, self._answers(memoir, part), self.facts)) for part in ("prompt", "rephrase"))
        after = zip(self._answers(memoir, "unrelated"), self.before, strict=True)
        kept = sum(first_sentence(new) == first_sentence(old) for new, old in after)
        number = len(self.facts)
        return Candidate(
            settings, edited / number, reworded / number, kept / number, metrics.mean(r.seconds for r in results),
            metrics.mean(r.steps for r in results), edited + reworded + kept, 3 * number,
        )  # fmt: skip

    def _answers(self, memoir: MemoirModel, part: str) -> list[str]:
        return metrics.whole_answers(memoir, [getattr(fact, part) for fact in self.facts], ANSWER_TOKENS)


def _ended(answer: str, fact: Fact) -> bool:
    return equals(answer, fact.target)


def _begun(answer: str, fact: Fact) -> bool:
    return begins_with(answer, fact.target)


def _layers(depth: int) -> list[int]:
    """The layers to try for a model with `depth` of them."""
    found = {default_layer(depth) + round(offset * depth / 16) for offset in _OFFSETS}
    return sorted(number for number in found if 0 <= number < depth)
