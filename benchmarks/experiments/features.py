"""Which pooling of a prompt's token activations finds a reworded edit best: `python -m benchmarks.experiments.features --edits zsre.jsonl`

For each way to make one feature of a prompt's tokens: the share of rephrasings whose nearest stored mask is their own edit's, the same
with a calibrated tau in the way, and the share of unrelated prompts that read. No edit is made: masks depend on the prompts alone.
"""

from __future__ import annotations

import math
from collections import Counter

import torch

from benchmarks import harness
from benchmarks.library import PLAIN, SignatureIndex, Threshold, passes, reference
from benchmarks.models import load_model
from benchmarks.quality import tasks
from memoir_fast import MemoirConfig, MemoirModel, load_texts


def tokens(model, texts: list[str]) -> list[tuple[list[int], torch.Tensor]]:
    """Each prompt's tokens and their activations (T, D) float32."""
    sequences = [model.encoder.prompt(text) for text in texts]
    rows = [a[m].float() for found, batch in passes(model.model, model.router, sequences, model.config.batch_size)
            for a, m in zip(found, batch.prompt_mask, strict=True)]  # fmt: skip
    return [(sequence.tokens, row) for sequence, row in zip(sequences, rows, strict=True)]


def poolings(background: list) -> dict:
    """name -> (token ids, activations (T, D)) -> feature (D,); weights are of the tokens of one prompt."""
    held = Counter(word for words, _ in background for word in set(words))
    mean = torch.cat([x for _, x in background]).mean(0)

    def rare(words, x):
        return torch.tensor([math.log((len(background) + 1) / (held[word] + 1)) + 0.1 for word in words])

    def weighted(weight):
        def pool(words, x):
            w = weight(words, x)
            return (w[:, None] * x).sum(0) / w.sum()

        return pool

    return {
        "mean (default)": lambda words, x: x.mean(0),
        "rare tokens up (log inverse frequency)": weighted(rare),
        "rare tokens up, squared": weighted(lambda words, x: rare(words, x) ** 2),
        "by distance from the mean token": weighted(lambda words, x: (x - mean).norm(dim=1)),
        "by its inverse": weighted(lambda words, x: 1 / (x - mean).norm(dim=1)),
        "later tokens up": weighted(lambda words, x: torch.linspace(0.01, 1, len(x))),
        "without the first token": lambda words, x: x[1:].mean(0) if len(x) > 1 else x[0],
        "half the last token": lambda words, x: (x.mean(0) + x[-1]) / 2,
        "root mean square": lambda words, x: x.square().mean(0).sqrt(),
        "largest": lambda words, x: x.abs().max(0)[0],
    }


def measure(model, pool, prompts: dict, scaled: bool) -> dict:
    features = {name: torch.stack([pool(words, x) for words, x in found]) for name, found in prompts.items()}
    background = features["background"].mean(0)
    scale = features["background"].std(0) + 1e-6 if scaled else torch.ones_like(background)
    memory = model.memory

    def signatures(name):
        zero = torch.zeros_like(background)
        return reference.tophash((features[name] - background) / scale, zero, memory.permutation, memory.top_k)[
            1
        ].numpy()

    stored, unrelated = signatures("prompt"), signatures("unrelated")
    index = SignatureIndex(memory.in_features, memory.top_k)
    index.add(list(range(len(stored))), stored)
    threshold = Threshold(index, None, signatures("calibration"), model.config.false_activation_rate)
    edits, overlap = index.nearest(signatures("rephrase"))
    false, others = index.nearest(unrelated)
    own = edits == torch.arange(len(edits)).numpy()
    return {"tau": threshold.median, "nearest_is_own": float(own.mean()), "reads_own": float((own & (overlap >= threshold.of(edits))).mean()),
            "unrelated_read": float((others >= threshold.of(false)).mean())}  # fmt: skip


def main() -> None:
    args = harness.arguments(__doc__, count=300).parse_args()
    recorder = harness.Recorder("features", args)
    model = MemoirModel(*load_model(args.model), MemoirConfig(**PLAIN), args.background)
    rows, texts = tasks.load_rows(args.edits, 0, args.count), load_texts(args.background)
    prompts = {"prompt": [r.prompt for r in rows], "rephrase": [r.rephrase for r in rows], "unrelated": [r.unrelated for r in rows],
               "background": texts.for_mean, "calibration": texts.for_threshold}  # fmt: skip
    prompts = {name: tokens(model, found) for name, found in prompts.items()}
    found = {}
    for name, pool in poolings(prompts["background"]).items():
        for scaled in (False, True):
            label = name + (", each feature by its deviation" if scaled else "")
            found[label] = measure(model, pool, prompts, scaled)
            print(label, found[label], flush=True)
    recorder.write({"edits": harness.edits_of(args), "model": args.model}, {"poolings": found})


if __name__ == "__main__":
    main()
