"""Rules that say which stored prompt a query reads: the words' rule, masks, and word statistics of a search engine.

Each stores prompts (several wordings to an edit) and targets, of which only the words' rule looks at the kind of answer, and reads queries; its threshold is calibrated on the package's unrelated prompts at the
default rate.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from benchmarks.library import (
    SignatureIndex,
    Threshold,
    Wordings,
    WordRule,
    calibration_of,
    offers,
    parted,
    prompt_signatures,
    read_prompts,
)
from memoir_fast import MemoirModel, load_texts

NOTHING = np.empty(0)


class Stored(Protocol):
    """Stored prompts, edit by edit.

    Attributes:
        least: the score from which one is read (of masks: the median).
    """

    least: float

    def read(self, sequences: list) -> list[int]:
        """The edit that each of the encoded queries reads, -1 for none."""


class Words:
    """The library's default."""

    def __init__(self, model: MemoirModel, stored: list[list[str]], targets: list[str]):
        self.model, self.matcher = model, model.router.words.keys.matcher
        texts = [model.encoder.prompt(text) for wordings in stored for text in wordings]
        codes = iter(read_prompts(model.model, model.router, self.matcher, texts, 16))
        wordings = [
            Wordings([next(codes)[0] for _ in some], offers=offers(target))
            for some, target in zip(stored, targets, strict=True)
        ]
        unrelated = parted(model.kept.words["unrelated"], self.matcher.bits)
        self.rule = WordRule.of(self.matcher, wordings.__getitem__, None, unrelated, model.config.false_activation_rate)
        self.rule.added(range(len(stored)), NOTHING)
        self.least = self.rule.threshold.value

    def read(self, sequences: list) -> list[int]:
        queries = read_prompts(self.model.model, self.model.router, self.matcher, sequences, 16)
        return [self.rule.best(code)[0] for _, code in queries]


class Masks:
    """The published rule: the nearest mask, each edit with its own calibrated threshold. Further wordings are edits of their own."""

    def __init__(self, model: MemoirModel, stored: list[list[str]], targets: list[str]):
        self.model, memory = model, model.memory
        self.index = SignatureIndex(memory.in_features, memory.top_k)
        texts = load_texts()
        self.threshold = Threshold(
            self.index,
            None,
            calibration_of(model.model, model.router, model.encoder, texts, model.config),
            model.config.false_activation_rate,
        )
        self.owner = [edit for edit, wordings in enumerate(stored) for _ in wordings]
        prompts = [model.encoder.prompt(text) for wordings in stored for text in wordings]
        self.index.add(range(len(prompts)), prompt_signatures(model.model, model.router, prompts, 16).numpy())
        self.least = self.threshold.median

    def read(self, sequences: list) -> list[int]:
        signatures = prompt_signatures(self.model.model, self.model.router, sequences, 16).numpy()
        rows, overlaps = self.index.nearest(signatures)
        enough = overlaps >= self.threshold.of(rows)
        return [self.owner[row] if read else -1 for row, read in zip(rows.tolist(), enough, strict=True)]


class Bm25:
    """Exact words, weighed as a search engine does (bm25s, method "lucene"); accepted above the unrelated prompts' scores, each divided by
    the stored prompt's score with itself."""

    def __init__(self, model: MemoirModel, stored: list[list[str]], targets: list[str]):
        import bm25s

        self.model, self.bm25s = model, bm25s
        self.owner = [edit for edit, wordings in enumerate(stored) for _ in wordings]
        texts = [text for wordings in stored for text in wordings]
        self.index = bm25s.BM25()
        self.index.index(bm25s.tokenize(texts, stopwords=None, show_progress=False), show_progress=False)
        self.own = np.maximum(np.array([self._best(text)[1] for text in texts]), 1e-6)
        unrelated = sorted((self._share(text)[1] for text in load_texts().for_threshold), reverse=True)
        self.least = unrelated[max(0, int(model.config.false_activation_rate * (len(unrelated) + 1)) - 1)]

    def _best(self, text: str) -> tuple[int, float]:
        rows, scores = self.index.retrieve(
            self.bm25s.tokenize([text], stopwords=None, show_progress=False), k=1, show_progress=False
        )
        return int(rows[0, 0]), float(scores[0, 0])

    def _share(self, text: str) -> tuple[int, float]:
        row, score = self._best(text)
        return row, score / self.own[row]

    def read(self, sequences: list) -> list[int]:
        texts = [self.model.tokenizer.decode(s.tokens[slice(*s.words)], skip_special_tokens=True) for s in sequences]
        found = [self._share(text) for text in texts]
        return [self.owner[row] if share > self.least else -1 for row, share in found]


RULES: dict[str, Any] = {"words": Words, "mask": Masks, "bm25": Bm25}
