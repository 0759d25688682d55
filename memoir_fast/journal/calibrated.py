"""Set the threshold from prompts that must not read an edit; `MemoirModel` inherits this."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..config import MemoirConfig
from ..memory.residual import ResidualMemory
from ..reading.background import BackgroundTexts, calibration_of, texts_of
from ..reading.measure import joined, parted, unrelated_of
from ..reading.router import Router
from ..reading.threshold import Threshold
from ..reading.trade_off import draw, drawable, trade_off
from ..reading.word_threshold import WordThreshold
from ..text.encoder import Encoder
from .journal import Journal
from .memory_state import WORDS, MemoryState


class Calibrated:
    """The calibrating methods of an object that has a threshold and a journal.

    Attributes:
        threshold: the score from which an edit is read.
        kept: the memory as it was made or opened.
    """

    inner: Any
    config: MemoirConfig
    encoder: Encoder
    memory: ResidualMemory
    router: Router
    threshold: Threshold | WordThreshold
    journal: Journal
    kept: MemoryState

    def calibrate(self, rate: float | None = None, background: str | BackgroundTexts | None = None) -> float:
        """Set the threshold from unrelated prompts for a given false-activation rate, and keep it calibrated.

        Args:
            rate: see `MemoirConfig.false_activation_rate`; None keeps the present one.
            background: other unrelated prompts to calibrate with, `BackgroundTexts` or the path of a JSONL file; None
                keeps those in use. All but the first hundred are used; the mean that masks are made with stays the
                same. A store keeps the prompts. A warning says when nearly all of them are of one kind
                (`BackgroundTexts.one_kind`).

        Returns:
            the threshold; with router="mask", where each edit has its own, their median.

        Raises:
            TypeError, ValueError: the rate or the background is not accepted.
            StoreError: the store is open for reading only, closed, or cannot be written.
        """
        config = self.config.updated(threshold=None, **({} if rate is None else {"false_activation_rate": rate}))
        with self.journal.writing:
            self.journal.check_writable()
            others = None
            if background is not None:
                texts = texts_of(background)
                others = self._others(texts)
                for common in texts.one_kind():
                    warnings.warn(f"background: {common}. Add prompts like all that your users send", stacklevel=2)
            with self.memory.lock:
                self.threshold.calibrate(config.false_activation_rate)
            self.config = config
            self.journal.configure(config, others)
            return self.threshold.median

    def trade_off(self, facts: int = 120, plot: str | None = None) -> dict[str, Any]:
        """What each threshold costs and gains: the share of prompts of each kind that would read an edit, from 0 to 1.

        The unrelated prompts are those that this memory is calibrated with. Rewordings and near misses are of facts
        that the library makes up; these are stored apart from this memory's and looked up by the same rule.
        docs/howto/calibrate.md says what can be concluded from them.

        Args:
            facts: how many facts to make up, at most one per relation; each comes with about six questions.
            plot: a file to draw the result to (.svg, .png, .pdf), with matplotlib (`pip install memoir-fast[plot]`).

        Returns:
            "threshold", the present one (with router="mask" the edits' median);
            "thresholds", and for each of them the shares "unrelated", "other_subject" (same wording), "same_subject"
            (other relation) and "rewordings" (these read the right fact);
            "at_threshold", the same shares at the present threshold;
            "prompts", the number of prompts of each kind.

        Raises:
            ImportError: `plot` was given and matplotlib is missing.
            ValueError: the plot's file type is not supported.
        """
        if plot is not None:
            drawable(plot)
        found = trade_off(self.inner, self.router, self.encoder, self.threshold, facts, self.config.batch_size)
        if plot is not None:
            draw(found, plot)
        return found

    def refresh(self) -> int:
        """Take over what the store's writer has added, and what it now calibrates with; returns the number of records.

        Answers that have begun do not change, nor does a threshold or rate that was given to this model.

        Raises:
            ValueError: a file of the store is missing or damaged.
            StoreError: the folder holds another store now.
        """
        with self.journal.writing:
            before = self.journal.settings
            count = self.journal.refresh()
            after = self.journal.settings
            if before is not None and after is not None:
                with self.memory.lock:
                    self._take_prompts(*after[1:])
                    self._take_settings(before[0], after[0])
            return count

    def _take_settings(self, before: MemoirConfig, after: MemoirConfig) -> None:
        """Follow changes of the store's calibration settings, unless this model was given its own."""
        config = self.config
        for name in ("threshold", "false_activation_rate"):
            if getattr(config, name) == getattr(before, name):
                config = config.updated(**{name: getattr(after, name)})
        if config != self.config:
            self.config = config
            self.threshold.calibrate(config.false_activation_rate)
            self.threshold.fixed = config.threshold

    def _take_prompts(self, calibration: torch.Tensor, words: dict[str, torch.Tensor] | None) -> None:
        """Calibrate with the store's prompts. If the store has none for this model's rule, those measured here stay in
        use."""
        kept, threshold = self.kept, self.threshold
        if isinstance(threshold, WordThreshold):
            assert kept.words is not None
            if words is not None and not torch.equal(words["unrelated"], kept.words["unrelated"]):
                kept.words = {**kept.words, "unrelated": words["unrelated"]}
                threshold.of_others(parted(words["unrelated"], threshold.keys.matcher.bits))
        elif len(calibration) and not np.array_equal(calibration.numpy(), kept.calibration):
            kept.calibration = calibration.numpy()
            threshold.of_others(kept.calibration)

    @contextlib.contextmanager
    def _calibration_kept(self) -> Iterator[None]:
        """A context at whose end this model is calibrated as it was before; the caller has given the memory back."""
        config, kept, threshold = self.config, self.kept, self.threshold
        calibration, words, fixed, rate = kept.calibration, kept.words, threshold.fixed, threshold.rate
        prompts = threshold.unrelated if isinstance(threshold, WordThreshold) else threshold.signatures
        try:
            yield
        finally:
            self.config, kept.calibration, kept.words = config, calibration, words
            with self.memory.lock:
                now = threshold.unrelated if isinstance(threshold, WordThreshold) else threshold.signatures
                if now is not prompts:
                    # What this very threshold had, so it is of the kind that it takes.
                    threshold.of_others(prompts)  # type: ignore[arg-type]
                threshold.calibrate(rate)
                threshold.fixed = fixed

    def _others(self, texts: BackgroundTexts) -> dict[str, torch.Tensor]:
        """Calibrate with other unrelated prompts from now on; returns them as a journal stores them."""
        model, router, size = self.inner, self.router, self.config.batch_size
        threshold = self.threshold
        if isinstance(threshold, WordThreshold):
            wordings = unrelated_of(model, router, threshold.keys.matcher, texts, size)
            with self.memory.lock:
                threshold.of_others(wordings)
            assert self.kept.words is not None
            said = joined(wordings)
            self.kept.words = {**self.kept.words, "unrelated": said}
            return {WORDS + "unrelated": said}
        signatures = calibration_of(model, router, self.encoder, texts, self.config)
        with self.memory.lock:
            threshold.of_others(signatures)
        self.kept.calibration = signatures
        return {"calibration": torch.from_numpy(signatures)}
