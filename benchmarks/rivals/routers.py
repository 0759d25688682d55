"""Rules that say which stored prompt a query reads: the words' rule, masks, word statistics of a search engine, GRACE's radius, and an oracle.

Each stores prompts (several wordings to an edit) and targets, of which only the words' rule looks at the kind of answer, and reads queries; its threshold is calibrated on the package's unrelated prompts at the
default rate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch

from benchmarks.library import (
    SignatureIndex,
    Threshold,
    Wordings,
    WordRule,
    calibration_of,
    offers,
    parted,
    passes,
    prompt_signatures,
    read_prompts,
)
from memoir_fast import MemoirModel, load_texts

NOTHING = np.empty(0)


class Stored(ABC):
    """Stored prompts, edit by edit.

    Attributes:
        least: the threshold as the rule has it (of masks: the median); cut: the score from which a query reads the edit that was found.
    """

    least: float
    cut: float

    @abstractmethod
    def found(self, sequences: list) -> list[tuple[int, float]]:
        """(edit, score) of the likeliest edit, for each of the encoded queries; -1 where there is none."""

    def read(self, sequences: list) -> list[int]:
        """The edit that each of the encoded queries reads, -1 for none."""
        return [edit if score >= self.cut else -1 for edit, score in self.found(sequences)]


class Words(Stored):
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
        self.least = self.cut = self.rule.threshold.value

    def found(self, sequences: list) -> list[tuple[int, float]]:
        queries = read_prompts(self.model.model, self.model.router, self.matcher, sequences, 16)
        ranked = [self.rule.keys.ranked(code) for _, code in queries]
        return [(some[0].edit, some[0].score) if some else (-1, 0.0) for some in ranked]


class Masks(Stored):
    """The published rule: the nearest mask, each edit with its own calibrated threshold. Further wordings are edits of their own. The score is how
    far the overlap lies above the edit's threshold."""

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
        self.least, self.cut = self.threshold.median, 0.0

    def found(self, sequences: list) -> list[tuple[int, float]]:
        signatures = prompt_signatures(self.model.model, self.model.router, sequences, 16).numpy()
        rows, overlaps = self.index.nearest(signatures)
        above = overlaps - self.threshold.of(rows)
        return [(self.owner[row], score) for row, score in zip(rows.tolist(), above.tolist(), strict=True)]


class Bm25(Stored):
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
        unrelated = [self._share(text)[1] for text in load_texts().for_threshold]
        self.least = self.cut = above(unrelated, model.config.false_activation_rate)

    def _best(self, text: str) -> tuple[int, float]:
        rows, scores = self.index.retrieve(
            self.bm25s.tokenize([text], stopwords=None, show_progress=False), k=1, show_progress=False
        )
        return int(rows[0, 0]), float(scores[0, 0])

    def _share(self, text: str) -> tuple[int, float]:
        row, score = self._best(text)
        return row, score / self.own[row]

    def found(self, sequences: list) -> list[tuple[int, float]]:
        texts = [self.model.tokenizer.decode(s.tokens[slice(*s.words)], skip_special_tokens=True) for s in sequences]
        return [(self.owner[row], share) for row, share in map(self._share, texts)]


class Grace(Stored):
    """GRACE's rule (Hartvigsen et al., NeurIPS 2023): the nearest key by Euclidean distance, if it is within that key's radius. A key is the
    input of the memory's layer at a prompt's last token; two keys of different edits share the distance between them. The score is the negative
    distance. The radius is calibrated as the other rules' thresholds are; the published one is a constant that fits no other model."""

    def __init__(self, model: MemoirModel, stored: list[list[str]], targets: list[str]):
        self.model = model
        self.owner = np.array([edit for edit, wordings in enumerate(stored) for _ in wordings])
        self.keys = self._last([model.encoder.prompt(text) for wordings in stored for text in wordings])
        between = torch.cdist(self.keys, self.keys)
        between[torch.from_numpy(self.owner[:, None] == self.owner)] = torch.inf
        self.half = between.min(1).values / 2
        unrelated = [
            score for _, score in self.found([model.encoder.prompt(text) for text in load_texts().for_threshold])
        ]
        self.cut = above(unrelated, model.config.false_activation_rate)
        # The radius; where no unrelated prompt lies within half the distance to another key, nothing limits it but that.
        self.least = min(-self.cut, float(self.half[self.half.isfinite()].max()))

    def _last(self, sequences: list) -> torch.Tensor:
        """(n, D) the layer's input at each sequence's last token."""
        rows = []
        for activations, batch in passes(self.model.model, self.model.router, sequences, 16):
            ends = batch.attention_mask.shape[1] - 1 - batch.attention_mask.flip(1).int().argmax(1)
            rows.append(activations[torch.arange(len(ends)), ends].float().cpu())
        return torch.cat(rows)

    @torch.no_grad()
    def found(self, sequences: list) -> list[tuple[int, float]]:
        distance, row = torch.cdist(self._last(sequences), self.keys).min(1)
        score = torch.where(distance <= self.half[row], -distance, -torch.inf)
        return list(zip(self.owner[row.numpy()].tolist(), score.tolist(), strict=True))


class Oracle(Stored):
    """Reads what is right, and nothing where nothing is: what any rule can reach at most, for it is told."""

    def __init__(self, model: MemoirModel, stored: list[list[str]], targets: list[str]):
        self.edits, self.least, self.cut = range(len(stored)), 1.0, 1.0

    def told(self, prompts: int, right) -> list[tuple[int, float]]:
        """`found` for prompts of which `right(i, edit)` says which edits are right."""
        found = (next((edit for edit in self.edits if right(i, edit)), -1) for i in range(prompts))
        return [(edit, float(edit >= 0)) for edit in found]

    def found(self, sequences: list) -> list[tuple[int, float]]:
        return [(-1, 0.0)] * len(sequences)


def above(unrelated: list[float], rate: float) -> float:
    """The cut just above the highest score of an unrelated prompt that may not read, as `memoir_fast` calibrates."""
    highest = sorted(unrelated, reverse=True)
    return float(np.nextafter(highest[max(0, int(rate * (len(highest) + 1)) - 1)], np.inf))


RULES: dict[str, Any] = {"words": Words, "mask": Masks, "bm25": Bm25, "oracle": Oracle, "grace": Grace}
