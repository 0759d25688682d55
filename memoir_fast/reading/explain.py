"""Explains why a prompt reads an edit, or none."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..text.batch import Sequence
from .matching.judge import covered_words
from .matching.keys import Keys, Match
from .matching.matcher import Wording
from .matching.prompt_codes import PromptCode
from .probe import prompt_signatures, read_prompts
from .router import Router


@torch.no_grad()
def explain(model: Any, router: Router, sequences: list[Sequence], top: int, batch_size: int) -> list[dict[str, Any]]:
    """The decision for each prompt, with its best candidates; see `Answering.route`."""
    if router.words is None:
        signatures = prompt_signatures(model, router, sequences, batch_size).numpy()
        return [_by_mask(router, signature, top) for signature in signatures]
    read = read_prompts(model, router, router.words.keys.matcher, sequences, batch_size)
    with router.memory.lock:
        return [_by_words(router, wording, code, top) for wording, code in read]


def _by_mask(router: Router, signature: np.ndarray, top: int) -> dict[str, Any]:
    with router.memory.lock:
        index = router.index()
        ids, overlaps = index.nearest(signature[None])
        tau = float(router.threshold(ids)[0])
        others = np.bitwise_count(index.signatures() & signature).sum(1, dtype=np.int64) / index.top_k
        order = np.argsort(-others, kind="stable")[:top]
        candidates = [{"edit": index.ids[row], "score": float(others[row])} for row in order]
    edit, score = int(ids[0]), float(overlaps[0])
    return {
        "edit": edit if edit >= 0 and score >= tau else None,
        "score": score,
        "threshold": tau,
        "candidates": candidates,
    }


def _by_words(router: Router, wording: Wording, code: PromptCode, top: int) -> dict[str, Any]:
    assert router.words is not None
    rule = router.words
    ranked = rule.keys.ranked(code, router.admitted())
    edit, score = rule.read(ranked)
    best = sorted(ranked, key=lambda match: -match.likeness)[:top]  # includes excluded edits, which people ask about
    candidates = [{"edit": m.edit, "score": m.likeness, "wording": m.wording, "kept_out": m.kept_out,
                   **_words(rule.keys, wording, code, m)} for m in best]  # fmt: skip
    return {
        "edit": edit if edit >= 0 else None,
        "score": score,
        "threshold": rule.threshold.value,
        "candidates": candidates,
    }


def _words(keys: Keys, wording: Wording, code: PromptCode, match: Match) -> dict[str, list[str]]:
    """The stored wording's words that the prompt has and lacks, and the prompt's important words that the wording
    lacks."""
    reader = keys.matcher.reader
    stored = reader.words(keys.wordings_of(match.edit).asked[match.wording].tokens).texts
    asked = reader.words(wording.tokens).texts
    has, added = covered_words(code, keys.store, match.row)
    stored, asked = stored[len(stored) - len(has) :], asked[len(asked) - len(added) :]
    return {
        "covered": [word for word, found in zip(stored, has, strict=True) if found],
        "missing": [word for word, found in zip(stored, has, strict=True) if not found],
        "added": [word for word, new in zip(asked, added, strict=True) if new],
    }
