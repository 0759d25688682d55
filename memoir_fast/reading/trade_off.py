"""What each threshold costs and gains: the share of prompts of each kind that would read an edit.

Rewordings and near misses of a user's own edits are not known. So they are generated for made-up facts
(`matching/near_misses.py`, with a seed that nothing was fitted on), which are stored separately and looked up by the
same rule. The unrelated prompts are those that the memory is calibrated with, looked up among its own edits.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..memory.index import SignatureIndex
from ..text.encoder import Encoder
from .matching.keys import Keys, Wordings
from .matching.near_misses import Asked, make_near_misses, wordings
from .probe import prompt_signatures, read_prompts
from .router import Router

SEED = 20_001  # the shipped networks were fitted with seed 0, so they have not seen these questions
THRESHOLDS = [number / 50 for number in range(51)]
KINDS = {"subject": "other_subject", "relation": "same_subject", "rewording": "rewordings"}


@dataclass(frozen=True)
class Generated:
    """Generated facts, and questions about them.

    Attributes:
        facts: (relation, subject) of each fact.
        stored: per fact, the texts that it is stored by.
        asked: the questions: rewordings, and near misses of both kinds.
    """

    facts: list[tuple[str, str]]
    stored: list[list[str]]
    asked: list[Asked]

    @classmethod
    def draw(cls, facts: int, seed: int = SEED) -> Generated:
        """Generate about `facts` facts, one per relation."""
        every = sorted(wordings())
        chosen = random.Random(seed).sample(every, min(facts, len(every)))
        made = make_near_misses(seed, keys_per_relation=1, relations=chosen)
        texts: dict[tuple[str, str], list[str]] = {}
        for key in made.keys:
            texts.setdefault(key.fact, []).append(key.text)
        asked = [
            one
            for one in made.queries
            if (kind := one.kind.split("/")[0]) in KINDS
            and one.text not in texts.get(one.fact, ())  # not the stored wording itself
            and (kind == "rewording") == (one.fact in texts)  # not a near miss that asks for a stored fact
        ]
        return cls(list(texts), list(texts.values()), asked)


def trade_off(
    model: Any, router: Router, encoder: Encoder, threshold: Any, facts: int, batch_size: int
) -> dict[str, Any]:
    """See `Calibrated.trade_off`."""
    made = Generated.draw(facts)
    best = _by_words if router.words is not None else _by_masks
    found = best(model, router, encoder, made, batch_size)
    scores: dict[str, list[float]] = {name: [] for name in KINDS.values()}
    for one, (fact, score) in zip(made.asked, found, strict=True):
        name = KINDS[one.kind.split("/")[0]]
        wrong = name == "rewordings" and made.facts[fact] != one.fact
        scores[name].append(-1.0 if wrong else score)  # a rewording that would read another fact never counts
    with router.memory.lock:
        every = {"unrelated": threshold.largest.tolist(), **scores}
        value = threshold.median
    return {
        "threshold": value,
        "router": "tokens" if router.words is not None else "mask",
        "thresholds": THRESHOLDS,
        **{name: [_share(some, at) for at in THRESHOLDS] for name, some in every.items()},
        "at_threshold": {name: _share(some, value) for name, some in every.items()},
        "prompts": {name: len(some) for name, some in every.items()},
        "generated_facts": len(made.facts),
    }


def _share(scores: list[float], threshold: float) -> float:
    return float(np.mean(np.array(scores) >= threshold)) if scores else 0.0


def _by_words(
    model: Any, router: Router, encoder: Encoder, made: Generated, batch_size: int
) -> list[tuple[int, float]]:
    """(number, score) of the likeliest stored fact, for each question."""
    assert router.words is not None
    matcher = router.words.keys.matcher
    texts = [text for some in made.stored for text in some] + [one.text for one in made.asked]
    read = read_prompts(model, router, matcher, [encoder.prompt(text) for text in texts], batch_size)
    each = iter(read)
    stored = [Wordings([next(each)[0] for _ in some]) for some in made.stored]
    keys = Keys(matcher, stored.__getitem__)
    keys.added(range(len(stored)), np.empty(0))
    ranked = [keys.ranked(code) for _, code in each]
    return [(some[0].edit, some[0].score) if some else (0, 0.0) for some in ranked]


def _by_masks(
    model: Any, router: Router, encoder: Encoder, made: Generated, batch_size: int
) -> list[tuple[int, float]]:
    """(number, overlap) of the stored fact with the nearest mask, for each question."""
    owner = [fact for fact, some in enumerate(made.stored) for _ in some]
    texts = [text for some in made.stored for text in some] + [one.text for one in made.asked]
    signatures = prompt_signatures(model, router, [encoder.prompt(text) for text in texts], batch_size).numpy()
    index = SignatureIndex(router.memory.in_features, router.memory.top_k)
    index.add(range(len(owner)), signatures[: len(owner)])
    rows, overlaps = index.nearest(signatures[len(owner) :])
    return [(owner[row], float(overlap)) for row, overlap in zip(rows.tolist(), overlaps.tolist(), strict=True)]


# ---- drawing -----------------------------------------------------------------------------------------------------


def drawable(path: str) -> None:
    """Check that a picture can be drawn, before anything is measured.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: it cannot write this type of file.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise ImportError("drawing the trade-off needs matplotlib: pip install memoir-fast[plot]") from None
    known = FigureCanvasBase.get_supported_filetypes()
    if path.rpartition(".")[2].lower() not in known or "." not in path:
        raise ValueError(f"plot: {path!r} must end in one of .{', .'.join(sorted(known))}")


def draw(found: dict[str, Any], path: str) -> None:
    """Draw the result of `trade_off` to a file, whose ending sets the type (.svg, .png, .pdf). Raises as `drawable`."""
    drawable(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    labels = {
        "rewordings": "rewordings that read their edit", "unrelated": "unrelated prompts that read one",
        "other_subject": "same wording, other subject", "same_subject": "same subject, other relation",
    }  # fmt: skip
    for name, label in labels.items():
        axes.plot(found["thresholds"], found[name], label=f"{label} ({found['prompts'][name]})")
    axes.axvline(
        found["threshold"], color="black", linestyle="--", linewidth=1, label=f"threshold {found['threshold']:.3f}"
    )
    axes.set_xlabel("threshold")
    axes.set_ylabel("share that reads")
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
