"""EasyEdit's scores for a request, before and after its edit."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from ..evaluation import metrics
from ..evaluation.metrics import mean
from ..model import MemoirModel
from .requests import Request, alternatives, learned, pairs_of

# EasyEdit's names for `eval_metric` -> what is measured. There, "exact match" too is the share of the target's tokens.
_MEASURES = {"token em": "token", "token_em": "token", "exact match": "token", "exact_match": "token", "acc": "token",
             "ppl": "ppl", "ood_ppl": "ood"}  # fmt: skip
EVAL_METRICS = tuple(_MEASURES)
LIKELY = 0.8


def check_metric(eval_metric: str) -> None:
    """Raise ValueError for a name that is not one of EasyEdit's."""
    if eval_metric not in _MEASURES:
        raise ValueError(f"eval_metric must be one of {EVAL_METRICS}, got {eval_metric!r}")


def measure(
    memoir: MemoirModel, request: Request, eval_metric: str = "token em", test_generation: bool = False
) -> dict[str, Any]:
    """The scores of one checked request in the model's present state.

    Returns:
        "rewrite_acc" and "rephrase_acc", a list with one number (with "ppl": "rewrite_ppl" and "rephrase_ppl", a
        float); with "ood_ppl" also "ood_acc", the share of tokens with a probability above 0.8, of the reworded passage
        or else the prompt; "locality", the argmax tokens under `<name>_output`; "portability", `<name>_acc`;
        with test_generation, "fluency_text".
    """
    kind = _MEASURES[eval_metric]
    prompt, answers = request["prompt"], alternatives("target_new", request["target_new"])
    reworded = request.get("rephrase_prompt")
    found: dict[str, Any] = {"locality": {}, "portability": {}}
    if kind == "ppl":
        found["rewrite_ppl"] = _perplexity(memoir, prompt, answers)
        if reworded:
            found["rephrase_ppl"] = _perplexity(memoir, reworded, answers)
    else:
        found["rewrite_acc"] = [_accuracy(memoir, prompt, answers)]
        if kind == "ood":
            found["ood_acc"] = metrics.likely_share(memoir, [reworded or prompt], LIKELY)[0]
        elif reworded:
            found["rephrase_acc"] = [_accuracy(memoir, reworded, answers)]
    for key, entry in (request.get("locality") or {}).items():
        unrelated = [(asked, given[0]) for asked, given in pairs_of(entry)]
        if unrelated:
            found["locality"][f"{key}_output"] = metrics.predictions(memoir, unrelated)
    for key, entry in (request.get("portability") or {}).items():
        scores = [_accuracy(memoir, asked, given) for asked, given in pairs_of(entry)]
        if scores:
            found["portability"][f"{key}_acc"] = scores
    if test_generation:
        found["fluency_text"] = memoir.ask(prompt)
    return found


def texts(memoir: MemoirModel, request: Request, max_new_tokens: int) -> dict[str, Any]:
    """The model's free answers to all prompts of a request."""
    found: dict[str, Any] = {"rewrite_ans": memoir.ask(request["prompt"], max_new_tokens)}
    if request.get("rephrase_prompt"):
        found["rephrase_ans"] = memoir.ask(request["rephrase_prompt"], max_new_tokens)
    for kind in ("locality", "portability"):
        asked = [prompt for entry in (request.get(kind) or {}).values() for prompt, _ in pairs_of(entry)]
        if asked:
            found[f"{kind}_ans"] = memoir.ask(asked, max_new_tokens)
    return found | {"target_new": learned(request)}


def compare_locality(entry: dict[str, Any]) -> None:
    """Replace the tokens after an edit by their agreement with those before, EasyEdit's `neighborhood_acc`.

    Raises ValueError if a locality is missing among the metrics from before.
    """
    before, after = entry["pre"].get("locality", {}), entry["post"]["locality"]
    for name in [n for n in after if n.endswith("_output")]:
        if name not in before:
            raise ValueError(
                f"pre_edit: case {entry['case_id']} has no locality {name!r}, which is what the tokens after the edit are compared with"
            )
        after[f"{name.removesuffix('_output')}_acc"] = metrics.agreement(after.pop(name), before[name])


def given_before(pre_edit: list[dict[str, Any]] | None, count: int) -> list[dict[str, Any]] | None:
    """The metrics from before the edits, as entries to complete; None if none are given. Raises ValueError for another
    form."""
    if pre_edit is None:
        return None
    if not isinstance(pre_edit, list) or not all(isinstance(entry, dict) for entry in pre_edit):
        raise ValueError(f"pre_edit must be a list of dictionaries, one per request, got {type(pre_edit).__name__}")
    if len(pre_edit) != count:
        raise ValueError(f"pre_edit must have {count} entries, one per request, got {len(pre_edit)}")
    return [{"pre": copy.deepcopy(entry.get("pre", entry))} for entry in pre_edit]


def place_of(pre_file: str | Path) -> Path:
    """The path to write the metrics from before to. Raises ValueError if its folder does not exist."""
    if not Path(pre_file).parent.is_dir():
        raise ValueError(
            f"pre_file: there is no folder {str(Path(pre_file).parent)!r} to write {Path(pre_file).name!r} in"
        )
    return Path(pre_file)


def write_before(path: Path, found: list[dict[str, Any]]) -> None:
    """Write the metrics from before, for another run's `pre_edit`. Raises OSError."""
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False), "utf-8")


def summary_metrics(all_metrics: list[dict[str, Any]] | dict[str, Any]) -> dict[str, dict[str, float]]:
    """Means over the cases, per stage and score; also printed, as EasyEdit does."""
    entries = [all_metrics] if isinstance(all_metrics, dict) else all_metrics
    summary: dict[str, dict[str, float]] = {}
    for stage in ("pre", "post"):
        scores: dict[str, list[float]] = {}
        for entry in entries:
            for name, value in entry.get(stage, {}).items():
                inner = value.items() if isinstance(value, dict) else [(name, value)]
                for key, numbers in inner:
                    if key.endswith(("_acc", "_ppl")):
                        scores.setdefault(key, []).append(mean(numbers) if isinstance(numbers, list) else numbers)
        summary[stage] = {name: mean(values) for name, values in scores.items()}
    print(f"metrics summary: {summary}")
    return summary


def _accuracy(memoir: MemoirModel, prompt: str, answers: list[str]) -> float:
    return max(metrics.token_accuracy(memoir, [(prompt, answer) for answer in answers]))


def _perplexity(memoir: MemoirModel, prompt: str, answers: list[str]) -> float:
    return min(metrics.perplexity(memoir, [(prompt, answer) for answer in answers]))
