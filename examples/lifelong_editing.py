"""The published experiments on top of this library: the script that users of EasyEdit's editors know, with its imports changed.

python examples/lifelong_editing.py --editing_method=MEMOIR --hparams_dir=hparams/MEMOIR/llama3-8b.yaml --data_dir=data \\
    --data_type=ZsRE --ds_size=100 --sequential_edit

The data files have their published names: {data_dir}/ZsRE/zsre_mend_{edit,train}.json, {data_dir}/hallucination/hallucination-{edit,train}.json,
{data_dir}/temporal/temporal-{edit,train}.json. `python -m memoir_fast.compat.run_editing` does the same with more kinds of files.
"""

import argparse
import json
from pathlib import Path

from memoir_fast.compat.easyedit import BaseEditor, MEMOIRHyperParams, summary_metrics

# data type -> (the files' names up to edit or train, fields of a record, the metric)
KINDS = {
    "ZsRE": ("zsre_mend_{}.json", {"prompt": "src", "target": "alt", "reworded": "rephrase", "local": "loc", "answer": "loc_ans"}, "token em"),
    "hallucination": ("hallucination-{}.json", {"prompt": "prompt", "target": "target_new", "local": "locality_prompt",
                                                "answer": "locality_ground_truth"}, "ppl"),
    "temporal": ("temporal-{}.json", {"prompt": "prompt", "target": "target_new", "reworded": "ood_rephrase", "local": "locality_prompt",
                                      "answer": "locality_ground_truth"}, "ood_ppl"),
}  # fmt: skip


def records(args, part):
    """The first `ds_size` records of the edit or the train file."""
    path = Path(args.data_dir) / args.data_type / KINDS[args.data_type][0].format(part)
    return json.loads(path.read_text("utf-8"))[: args.ds_size]


def arguments():
    """The script's options."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--editing_method", required=True, choices=["MEMOIR"])
    parser.add_argument("--hparams_dir", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--data_type", required=True, choices=KINDS)
    parser.add_argument("--output_dir", default="./outputs")
    parser.add_argument("--ds_size", default=3, type=int)
    parser.add_argument("--sequential_edit", action="store_true")
    parser.add_argument("--top_k", type=int)
    parser.add_argument("--irr_threshold", type=float)
    parser.add_argument("--RUN_SAVE_BACKGROUND_FEATURES", default="False")
    parser.add_argument("--dir_to_save_background_features")
    return parser.parse_args()


def settings(args):
    """The YAML's settings, replaced by those given on the command line."""
    hparams = MEMOIRHyperParams.from_hparams(args.hparams_dir)
    for name in ("top_k", "irr_threshold", "dir_to_save_background_features"):
        if getattr(args, name) is not None:
            setattr(hparams, name, getattr(args, name))
    hparams.RUN_SAVE_BACKGROUND_FEATURES = args.RUN_SAVE_BACKGROUND_FEATURES == "True"
    return hparams


def main():
    args = arguments()
    hparams = settings(args)
    _, fields, eval_metric = KINDS[args.data_type]
    edits = records(args, "edit")

    def column(name):
        return [record[fields[name]] for record in edits]

    editor = BaseEditor.from_hparams(hparams)
    metrics, _, _ = editor.edit(
        prompts=column("prompt"),
        target_new=column("target"),
        rephrase_prompts=column("reworded") if "reworded" in fields else None,
        locality_inputs={"neighborhood": {"prompt": column("local"), "ground_truth": column("answer")}},
        subject=[record["subject"] for record in edits],
        loc_prompts=[f"{record[fields['local']]} {record[fields['answer']]}" for record in records(args, "train")],
        sequential_edit=args.sequential_edit,
        eval_metric=eval_metric,
    )
    name = f"{hparams.model_name.split('/')[-1]}_{args.editing_method}_N={args.ds_size}_Sequential={args.sequential_edit}.json"
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    (Path(args.output_dir) / name).write_text(json.dumps(metrics, indent=4))
    if metrics:
        summary_metrics(metrics)


if __name__ == "__main__":
    main()
