"""Does training near facts again with each edit keep them? `python -m benchmarks.experiments.replay --near 2 --edits zsre.jsonl --folder runs/replay`

With each edit of a stream (`benchmarks.quality.retention` and its options), the stored facts whose masks share most columns with it are
trained in the same steps. The memory takes their corrections in without a record of their own, so that no store could take them back.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from benchmarks.library import EditRequest, overlaps, prompt_signatures
from benchmarks.quality import retention

SAME_FACT = 0.95  # overlap from which two prompts ask the same, as for the store's conflicts


def near(model, before: list, row, count: int) -> list:
    """The `count` earlier rows whose masks overlap this row's most, leaving out those that ask the same."""
    (signature,) = prompt_signatures(model.model, model.router, [model.encoder.prompt(row.prompt)], 1).numpy()
    shared = overlaps(model.memory.index.signatures(), signature, model.memory.top_k)
    return [before[i] for i in np.argsort(-shared) if shared[i] < SAME_FACT][:count]


def replayed(model, before: list, row, count: int):
    """Edit a row while the `count` nearest earlier ones are trained again in the same steps."""
    again = [EditRequest(r.prompt, r.target) for r in near(model, before, row, count)]
    optimise = model.editor.optimise

    def together(requests, config, *without):
        finished = optimise([*requests, *again], config, *without)
        for update in finished.updates[1:]:  # C counts each fact's tokens once
            features = None if update.features is None else torch.zeros_like(update.features)
            model.memory.write(replace(update, features=features))
        return replace(
            finished, **{name: getattr(finished, name)[:1] for name in ("requests", "updates", "losses", "steps")}
        )

    model.editor.optimise = together
    try:
        return model.edit(row.prompt, row.target)
    finally:
        del model.editor.optimise


def variant(count: int) -> retention.Variant:
    """A stream that trains `count` near facts again with each edit."""
    return retention.Variant(
        "replay", lambda model, before, row: replayed(model, before, row, count), {"replay": count}
    )


def main() -> None:
    parser = retention.arguments(__doc__)
    parser.add_argument("--near", type=int, default=2, help="so many near facts are trained again with each edit")
    args = parser.parse_args()
    retention.run(args, variant(args.near))


if __name__ == "__main__":
    main()
