"""EasyEdit's names over this library: change the import, keep the rest.

    from memoir_fast.compat.easyedit import BaseEditor, MEMOIRHyperParams, apply_memoir_to_model, summary_metrics

Nothing of EasyEdit is needed. The defaults are the published editor's: `write="sgd"`, the YAML's threshold, conflicts kept.
"""

from __future__ import annotations

import copy as copying
import functools
import time
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import torch

from ..base.attachment import attachment_of
from ..base.loading import load_model
from ..evaluation import metrics
from ..evaluation.metrics import mean
from ..journal.volatile import VolatileJournal
from ..model import MemoirModel
from ..reading.background import load_texts
from .params import MEMOIRHyperParams
from .tensors import load_background

__all__ = ["BaseEditor", "EditedModel", "MEMOIRHyperParams", "apply_memoir_to_model", "summary_metrics"]

# EasyEdit passes the bare model again and again: its front, for as long as anyone holds it.
_fronts: weakref.WeakValueDictionary[int, MemoirModel] = weakref.WeakValueDictionary()
# A request is a dictionary as `apply_memoir_to_model` takes it; several may be one text or a list; inputs are named (prompt, ground_truth).
Request: TypeAlias = dict[str, Any]
Texts: TypeAlias = str | Sequence[str]
Inputs: TypeAlias = dict[str, dict[str, Any]]
EVAL_METRICS = ("token em", "ppl", "ood_ppl")


class EditedModel:
    """A `MemoirModel` that is called as the published editor's model is; everything else is the base model's.

    Attributes:
        memoir: the `MemoirModel`.
    """

    def __init__(self, memoir: MemoirModel):
        self.memoir = memoir

    def __call__(self, *args: Any, last_prompt_token_loc_inference: Any = None, **kwargs: Any) -> Any:
        """The forward pass; `last_prompt_token_loc_inference` (an int, or one a row) is where each prompt ends."""
        if last_prompt_token_loc_inference is not None:
            tokens = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
            last = torch.as_tensor(last_prompt_token_loc_inference, device=tokens.device).reshape(-1, 1)
            mask = torch.arange(tokens.shape[1], device=tokens.device)[None] <= last
            mask = mask.expand(tokens.shape)
            if kwargs.get("attention_mask") is not None:
                mask = mask & kwargs["attention_mask"].bool()
            kwargs["prompt_mask"] = mask
        return self.memoir(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """transformers' `generate`, with the memory."""
        return self.memoir.generate(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "memoir":
            raise AttributeError(name)
        return getattr(self.memoir.model, name)


class WeightsCopy:
    """Undoes the edits made since it was taken: call it, or walk its `items()` as some versions of EasyEdit do.

    No base weight was changed, so what `items()` yields (parameter name, original tensor) may be written back or not; asking for
    it restores the memory.
    """

    def __init__(self, memoir: MemoirModel):
        if not isinstance(memoir.journal, VolatileJournal):
            raise ValueError("model: its edits lie in a store; take edits back with delete() or rollback()")
        self._memoir, self._journal, self._mark = memoir, memoir.journal, memoir.journal.mark()

    def __call__(self) -> None:
        """Restore."""
        self._journal.return_to(self._mark)

    def items(self) -> list[tuple[str, torch.Tensor]]:
        """Restore, and the edited projection's own parameters, by their present names."""
        self()
        path = self._memoir.target.path
        projection = self._memoir.model.get_submodule(path)
        return [(f"{path}.{name}", value.detach().clone()) for name, value in projection.named_parameters()]


def memoir_of(model: Any, tok: Any, hparams: MEMOIRHyperParams) -> MemoirModel:
    """The memory that a model carries already, or a new one beside it.

    Raises:
        ValueError: the model carries a memory that was not made here, or the settings do not fit the model.
    """
    if isinstance(model, EditedModel):
        return model.memoir
    if isinstance(model, MemoirModel):
        return model
    if attachment_of(model) is not None:
        found = _fronts.get(id(model))
        if found is None:
            raise ValueError("model: it carries a memory already; pass what the first call returned")
        return found
    background = load_background(hparams.dir_background_features) if hparams.dir_background_features else load_texts()
    made = MemoirModel(model, tok, hparams.config(), background)
    _fronts[id(model)] = made
    if hparams.dir_to_save_background_features:
        torch.save(made.memory.background[None].cpu(), hparams.dir_to_save_background_features)
    return made


def apply_memoir_to_model(
    model: Any,
    tok: Any,
    requests: Iterable[Request],
    hparams: MEMOIRHyperParams,
    copy: bool = False,
    return_orig_weights: bool = False,
    keep_original_weight: bool = False,
    **kwargs: Any,
) -> tuple[EditedModel, WeightsCopy]:
    """What EasyEdit's algorithm dictionary calls: edit `requests` into the model.

    Args:
        model: a Hugging Face model, or what an earlier call returned.
        requests: dictionaries with `prompt` and `target_new`; `{}` in a prompt is filled with `subject`.
        copy: edit a copy of a model that carries no memory yet.
        return_orig_weights, keep_original_weight: accepted; the second value always restores.

    Returns:
        (EditedModel, WeightsCopy).
    """
    if copy and not isinstance(model, (EditedModel, MemoirModel)):
        model = copying.deepcopy(model)
    memoir = memoir_of(model, tok, hparams)
    before = WeightsCopy(memoir)
    for request in requests:
        prompt = request["prompt"]
        if "{}" in prompt and request.get("subject"):
            prompt = prompt.format(request["subject"])
        memoir.edit(prompt, request["target_new"].strip())
    return EditedModel(memoir), before


class BaseEditor:
    """EasyEdit's editor.

    Args:
        hparams: `model_name` may be a hub id, a folder, "smollm2", or a (model, tokenizer) pair.
    """

    def __init__(self, hparams: MEMOIRHyperParams):
        self.hparams = hparams
        if isinstance(hparams.model_name, (tuple, list)):
            self.model, self.tok = hparams.model_name
            self.model_name = getattr(self.model, "name_or_path", "") or type(self.model).__name__
        else:
            self.model, self.tok = load_model(hparams.model_name)
            self.model_name = hparams.model_name
            self.model.to(_device(hparams.device))
        self.alg_name = hparams.alg_name

    @classmethod
    def from_hparams(cls, hparams: MEMOIRHyperParams) -> BaseEditor:
        """The editor for these settings."""
        return cls(hparams)

    def edit(
        self, prompts: Texts | None = None, target_new: Texts | None = None, ground_truth: Texts | None = None, target_neg: Any = None,
        rephrase_prompts: Texts | None = None, locality_inputs: Inputs | None = None, portability_inputs: Inputs | None = None,
        sequential_edit: bool = False, verbose: bool = True, eval_metric: str = "token em", *, subject: Texts | None = None,
        loc_prompts: Any = None, keep_original_weight: bool = False, test_generation: bool = False, requests: list[Request] | None = None,
        pre_edit: list[dict[str, Any]] | None = None, pre_file: str | None = None, **kwargs: Any,
    ) -> tuple[list[dict[str, Any]], EditedModel, WeightsCopy]:  # fmt: skip
        """Edit, and measure before and after.

        Args:
            prompts, target_new, ...: lists of one length, or single texts.
            sequential_edit: keep every edit (True), or restore the model after each has been measured.
            eval_metric: "token em", "ppl" (perplexity of the target) or "ood_ppl" (accuracy on the differently worded prompt).
            requests: the same as dictionaries, instead of the lists.
            pre_edit, pre_file: metrics from before, a list or the JSON file of one; measured when absent.
            test_generation: also a free continuation of each prompt, under "fluency_text".
            target_neg, loc_prompts, keep_original_weight: accepted, not needed.

        Returns:
            (metrics: a list of dictionaries, the edited model, an object that restores it).
        """
        if eval_metric not in EVAL_METRICS:
            raise ValueError(f"eval_metric must be one of {EVAL_METRICS}, got {eval_metric!r}")
        if requests is None:
            requests = _requests(
                prompts, target_new, ground_truth, rephrase_prompts, locality_inputs, portability_inputs, subject
            )
        memoir = memoir_of(self.model, self.tok, self.hparams)
        whole = WeightsCopy(memoir)
        measure = functools.partial(self._measure, memoir, eval_metric=eval_metric, test_generation=test_generation)
        found = _given(pre_edit, pre_file, len(requests))
        if found is None:
            found = [{"pre": measure(request)} for request in requests]
        for number, (request, entry) in enumerate(zip(requests, found, strict=True)):
            began = time.perf_counter()
            _, restore = apply_memoir_to_model(memoir, self.tok, [request], self.hparams)
            entry.update(case_id=number, requested_rewrite=request, time=time.perf_counter() - began)
            if not sequential_edit:
                entry["post"] = measure(request)
                restore()
        if sequential_edit:
            for request, entry in zip(requests, found, strict=True):
                entry["post"] = measure(request)
        for entry in found:
            _compare_locality(entry)
            if verbose:
                print(f"case {entry['case_id']}: pre {entry['pre']}, post {entry['post']}")
        self.model = EditedModel(memoir)
        return found, self.model, whole

    def batch_edit(
        self,
        prompts: Texts,
        target_new: Texts,
        ground_truth: Texts | None = None,
        rephrase_prompts: Texts | None = None,
        locality_inputs: Inputs | None = None,
        verbose: bool = True,
        **kwargs: Any,
    ) -> tuple[list[dict[str, Any]], EditedModel, WeightsCopy]:
        """Edit `hparams.batch_size` facts at a time, optimised jointly; measured after all. Returns as `edit`."""
        requests = _requests(prompts, target_new, ground_truth, rephrase_prompts, locality_inputs, None, None)
        memoir = memoir_of(self.model, self.tok, self.hparams)
        whole = WeightsCopy(memoir)
        found: list[dict[str, Any]] = [{"pre": self._measure(memoir, request)} for request in requests]
        results = memoir.edit_many(
            [(r["prompt"], r["target_new"]) for r in requests], batch_size=self.hparams.batch_size
        )
        for number, (request, entry, result) in enumerate(zip(requests, found, results, strict=True)):
            entry.update(case_id=number, requested_rewrite=request, time=result.seconds)
            entry["post"] = self._measure(memoir, request)
            _compare_locality(entry)
            if verbose:
                print(f"case {number}: pre {entry['pre']}, post {entry['post']}")
        self.model = EditedModel(memoir)
        return found, self.model, whole

    def _measure(
        self, memoir: MemoirModel, request: Request, eval_metric: str = "token em", test_generation: bool = False
    ) -> dict[str, Any]:
        """EasyEdit's scores of one request in the model's present state."""
        prompt, target = request["prompt"], request["target_new"]
        found: dict[str, Any] = {"locality": {}, "portability": {}}
        if eval_metric == "ppl":
            found["rewrite_ppl"] = metrics.perplexity(memoir, [(prompt, target)])
        else:
            found["rewrite_acc"] = metrics.token_accuracy(memoir, [(prompt, target)])
        reworded = request.get("rephrase_prompt")
        if reworded:
            name = {"ppl": "rephrase_ppl", "ood_ppl": "ood_acc"}.get(eval_metric, "rephrase_acc")
            score = metrics.perplexity if eval_metric == "ppl" else metrics.token_accuracy
            found[name] = score(memoir, [(reworded, target)])
        for key, pairs in request.get("locality", {}).items():
            found["locality"][f"{key}_output"] = metrics.predictions(memoir, _pairs(pairs))
        for key, pairs in request.get("portability", {}).items():
            found["portability"][f"{key}_acc"] = metrics.token_accuracy(memoir, _pairs(pairs))
        if test_generation:
            found["fluency_text"] = memoir.ask(prompt)
        return found


def summary_metrics(all_metrics: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over the cases, per stage and score; also printed, as EasyEdit does."""
    summary: dict[str, dict[str, float]] = {}
    for stage in ("pre", "post"):
        scores: dict[str, list[float]] = {}
        for entry in all_metrics:
            for name, value in entry.get(stage, {}).items():
                if isinstance(value, dict):
                    for inner, numbers in value.items():
                        if inner.endswith("_acc"):
                            scores.setdefault(inner, []).append(mean(numbers))
                elif isinstance(value, list):
                    scores.setdefault(name, []).append(mean(value))
        summary[stage] = {name: mean(values) for name, values in scores.items()}
    print(f"metrics summary: {summary}")
    return summary


def _device(device: int | str) -> str:
    return f"cuda:{device}" if isinstance(device, int) or str(device).isdigit() else str(device)


def _list(name: str, value: Texts, count: int) -> list[Any]:
    values = [value] if isinstance(value, str) else list(value)
    if len(values) != count:
        raise ValueError(f"{name} must have {count} entries, one per prompt, got {len(values)}")
    return values


def _requests(
    prompts: Texts | None,
    target_new: Texts | None,
    ground_truth: Texts | None,
    rephrase_prompts: Texts | None,
    locality_inputs: Inputs | None,
    portability_inputs: Inputs | None,
    subject: Texts | None,
) -> list[Request]:
    if prompts is None or target_new is None:
        raise ValueError("prompts and target_new must be given (or requests)")
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    count = len(prompts)
    requests: list[Request] = [
        {"prompt": p, "target_new": t} for p, t in zip(prompts, _list("target_new", target_new, count), strict=True)
    ]
    for name, key, values in (("ground_truth", "ground_truth", ground_truth), ("rephrase_prompts", "rephrase_prompt", rephrase_prompts),
                              ("subject", "subject", subject)):  # fmt: skip
        if values is not None:
            for request, value in zip(requests, _list(name, values, count), strict=True):
                request[key] = value
    for name, given in (("locality", locality_inputs), ("portability", portability_inputs)):
        for key, entry in (given or {}).items():
            if set(entry) != {"prompt", "ground_truth"}:
                raise ValueError(f"{name}_inputs[{key!r}] must have prompt and ground_truth, got {sorted(entry)}")
            pairs = zip(_list(key, entry["prompt"], count), _list(key, entry["ground_truth"], count), strict=True)
            for request, (prompt, answer) in zip(requests, pairs, strict=True):
                if prompt is not None:
                    request.setdefault(name, {})[key] = {"prompt": prompt, "ground_truth": answer}
    return requests


def _pairs(entry: dict[str, Any]) -> list[tuple[str, str]]:
    prompts, answers = entry["prompt"], entry["ground_truth"]
    return list(zip(prompts, answers, strict=True)) if isinstance(prompts, list) else [(prompts, answers)]


def _given(pre_edit: list[dict[str, Any]] | None, pre_file: str | None, count: int) -> list[dict[str, Any]] | None:
    if pre_file is not None:
        import json
        from pathlib import Path

        if not Path(pre_file).is_file():
            raise ValueError(f"pre_file: there is no file {str(pre_file)!r}")
        pre_edit = json.loads(Path(pre_file).read_text("utf-8"))
    if pre_edit is None:
        return None
    if len(pre_edit) != count:
        raise ValueError(f"pre_edit must have {count} entries, one per request, got {len(pre_edit)}")
    return [{"pre": copying.deepcopy(entry.get("pre", entry))} for entry in pre_edit]


def _compare_locality(entry: dict[str, Any]) -> None:
    """Replace the tokens of before and after by their agreement: EasyEdit's `neighborhood_acc`."""
    before, after = entry["pre"].get("locality", {}), entry["post"]["locality"]
    for name in [n for n in after if n.endswith("_output")]:
        after[f"{name.removesuffix('_output')}_acc"] = metrics.agreement(after.pop(name), before[name])
