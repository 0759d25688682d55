"""The published script: `python -m memoir_fast.compat.run_editing --editing_method=MEMOIR --hparams_dir=smollm2 --data_dir=data
--data_type=ZsRE --ds_size=100 --sequential_edit --output_dir=out`

Reads the JSON or JSONL file in `{data_dir}/{data_type}/` (if there are several, the one with "edit" in its name) or
`{data_dir}/{data_type}.json[l]`, ignoring case, and writes the metrics to
`{output_dir}/{model}_{method}_N={ds_size}_Sequential={bool}.json`. Any setting of the YAML file can be overridden:
`--n_iter=10`. With `--RUN_SAVE_BACKGROUND_FEATURES=True`, background features are measured instead, on the unrelated
texts of the file (or of the one with "train" in its name, if there is one).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path

from .data import DATA_TYPES, load_records
from .easyedit import BaseEditor, summary_metrics
from .params import MEMOIRHyperParams
from .requests import alternatives

_METRICS = {
    "ZsRE": "token em", "counterfact": "token em", "KnowEdit": "token em", "hallucination": "ppl", "temporal": "ood_ppl",
}  # fmt: skip


def find_file(data_dir: str, data_type: str, part: str = "edit") -> Path:
    """The data file of a type; of several, the one with `part` in its name. Raises ValueError if there is not exactly
    one."""
    top = Path(data_dir)
    folder = top / data_type
    found = sorted(folder.glob("*.json*")) if folder.is_dir() else []
    found = found or [p for p in sorted(top.glob("*.json*")) if p.stem.lower() == data_type.lower()]
    if len(found) > 1:
        found = [p for p in found if part in p.stem.lower()] or found
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise ValueError(
            f"data_dir: expected one JSON file in {folder}, or one with {part!r} in its name, found {names}"
        )
    return found[0]


def main(argv: list[str] | None = None) -> int:
    """Run the script; returns the exit status (2 for bad input, with the reason on stderr)."""
    parser = argparse.ArgumentParser(prog="run_editing", description=__doc__.splitlines()[0])
    parser.add_argument("--editing_method", default="MEMOIR", choices=["MEMOIR"])
    parser.add_argument("--hparams_dir", required=True, help="YAML file, or the name of a shipped one")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--data_type", required=True, choices=DATA_TYPES)
    parser.add_argument("--ds_size", type=int)
    parser.add_argument("--sequential_edit", action="store_true")
    parser.add_argument("--output_dir", default="outputs")
    for entry in fields(MEMOIRHyperParams):
        parser.add_argument(f"--{entry.name}", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    try:
        print(run(args))
    except ValueError as error:
        print(f"run_editing: {error}", file=sys.stderr)
        return 2
    return 0


def run(args: argparse.Namespace) -> Path:
    """Edit and measure; returns the file written. Raises ValueError for bad input, OSError if writing fails."""
    hparams = MEMOIRHyperParams.from_hparams(args.hparams_dir)
    overrides = {e.name: getattr(args, e.name) for e in fields(hparams) if getattr(args, e.name) is not None}
    if "inner_params" in overrides:
        overrides["inner_params"] = [overrides["inner_params"]]
    hparams = MEMOIRHyperParams(**{**{e.name: getattr(hparams, e.name) for e in fields(hparams)}, **overrides})
    if hparams.RUN_SAVE_BACKGROUND_FEATURES:
        return collect(args, hparams)
    records = load_records(find_file(args.data_dir, args.data_type), args.data_type, args.ds_size)
    requests = [record.request() for record in records]
    editor = BaseEditor.from_hparams(hparams)
    found, _, _ = editor.edit_requests(
        requests, sequential_edit=args.sequential_edit, eval_metric=_METRICS[args.data_type], verbose=False
    )
    model = str(editor.model_name).rstrip("/").split("/")[-1]
    path = (
        Path(args.output_dir)
        / f"{model}_{args.editing_method}_N={len(requests)}_Sequential={args.sequential_edit}.json"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False))
    summary_metrics(found)
    return path


def collect(args: argparse.Namespace, hparams: MEMOIRHyperParams) -> Path:
    """Measure background features on the unrelated texts, each "prompt answer"; returns the file written. Raises as
    `run`."""
    records = load_records(find_file(args.data_dir, args.data_type, "train"), args.data_type, args.ds_size)
    requests = []
    for record in records:
        entry = record.request()["locality"].get("neighborhood")
        if entry is not None:
            answer = alternatives("locality_ground_truth", entry["ground_truth"])[0]
            requests.append({**record.request(), "loc_prompt": f"{entry['prompt']} {answer}"})
    if not requests:
        raise ValueError(
            "data_dir: no record has a locality prompt with an answer, so there are no background features to collect"
        )
    BaseEditor.from_hparams(hparams).edit_requests(requests, verbose=False)
    return Path(str(hparams.dir_to_save_background_features))


if __name__ == "__main__":
    sys.exit(main())
