"""The drop-in front beside the published editor: `python -m benchmarks.speed.dropin --edits zsre.jsonl`

`memoir_fast.compat.easyedit.BaseEditor` with the YAML that the package ships for the small model, and the published way of working with the
same settings, background, contexts and permutation, one stream of edits each, measured after the last: the metrics have to agree.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks import harness
from benchmarks.library import BaseEditor, MEMOIRHyperParams, summary_metrics
from benchmarks.models import load_model
from benchmarks.quality import tasks
from benchmarks.rivals.published import PublishedEditor

YAML = harness.ROOT / "memoir_fast" / "compat" / "hparams" / "smollm2.yaml"


def ours(args, rows) -> tuple[dict, object]:
    """(metrics, seconds) through `BaseEditor`, and the edited model."""
    settings = MEMOIRHyperParams.from_hparams(str(YAML))
    settings.model_name = args.model
    torch.manual_seed(args.seed)
    neighborhood = {"prompt": [row.unrelated for row in rows], "ground_truth": [row.unrelated_answer for row in rows]}
    found, edited, _ = BaseEditor.from_hparams(settings).edit(
        prompts=[row.prompt for row in rows], target_new=[row.target for row in rows], rephrase_prompts=[row.rephrase for row in rows],
        locality_inputs={"neighborhood": neighborhood}, sequential_edit=True, verbose=False,
    )  # fmt: skip
    post = summary_metrics(found)["post"]
    scores = {
        "rewrite_acc": post["rewrite_acc"],
        "rephrase_acc": post["rephrase_acc"],
        "neighborhood_acc": post["neighborhood_acc"],
        "seconds": sum(entry["time"] for entry in found) / len(found),
    }
    return scores, edited


def published(args, rows, like) -> dict:
    """The same through the published way of working."""
    editor = PublishedEditor(load_model(args.model)[0], like)
    began = time.perf_counter()
    for row in tqdm(rows, desc="published"):
        editor.edit(row.prompt, row.target)
    seconds = (time.perf_counter() - began) / len(rows)
    return {
        "rewrite_acc": editor.accuracy([(row.prompt, row.target) for row in rows]),
        "rephrase_acc": editor.accuracy([(row.rephrase, row.target) for row in rows]),
        "neighborhood_acc": editor.locality([(row.unrelated, row.unrelated_answer) for row in rows]),
        "seconds": seconds,
    }


def main() -> None:
    parser = harness.arguments(__doc__, count=30)
    parser.add_argument("--seed", type=int, default=0, help="draws TopHash's permutation")
    args = parser.parse_args()
    rows = tasks.load_rows(args.edits, 0, args.count)
    recorder, found = harness.Recorder("dropin", args), {}
    found["base_editor"], edited = ours(args, rows)
    print("BaseEditor", found["base_editor"], flush=True)
    settings = {"model": args.model, "edits": Path(args.edits).name, "count": args.count, "seed": args.seed,
                "config": asdict(edited.memoir.config)}  # fmt: skip
    found["published"] = published(args, rows, edited.memoir)
    print("published", found["published"], flush=True)
    names = ("rewrite_acc", "rephrase_acc", "neighborhood_acc")
    found["differences"] = {name: round(found["base_editor"][name] - found["published"][name], 4) for name in names}
    print(found["differences"])
    recorder.write(settings, found)


if __name__ == "__main__":
    main()
