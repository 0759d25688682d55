"""EasyEdit's interface to this library: change the import, keep the rest.

    from memoir_fast.compat.easyedit import BaseEditor, MEMOIRHyperParams, apply_memoir_to_model, summary_metrics

EasyEdit need not be installed. The defaults are the published editor's: `recipe="published"`, the YAML file's
threshold, and contradicting edits are all kept.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch

from ..base.loading import load_model
from ..model import MemoirModel
from . import scores
from .algorithm import apply_memoir_to_model, collect_background, memoir_of
from .edited_model import EditedModel, WeightsCopy
from .params import MEMOIRHyperParams
from .requests import Inputs, Request, Texts, checked, learned, requests_from
from .scores import EVAL_METRICS, summary_metrics

__all__ = [
    "ALG_DICT",
    "EVAL_METRICS",
    "BaseEditor",
    "EditedModel",
    "MEMOIRHyperParams",
    "apply_memoir_to_model",
    "summary_metrics",
]

ALG_DICT = {"MEMOIR": apply_memoir_to_model}
_NOT_NEEDED = ("keep_original_weight", "train_ds")  # every method accepts and ignores these
Edited = tuple[list[dict[str, Any]], Any, WeightsCopy]


class BaseEditor:
    """EasyEdit's editor.

    With `hparams.RUN_SAVE_BACKGROUND_FEATURES` its methods edit and measure nothing. They collect the features of
    `loc_prompts` and return an empty list of metrics, the unchanged model, and nothing to restore.

    Args:
        hparams: the settings, ours or EasyEdit's own object of that name; `model_name` may be a hub id, a folder,
            "smollm2", or a (model, tokenizer) pair.

    Raises:
        ValueError: there is no such device, or as `load_model`.
    """

    def __init__(self, hparams: MEMOIRHyperParams):
        self.hparams = hparams = MEMOIRHyperParams.of(hparams)
        if isinstance(hparams.model_name, (tuple, list)):
            self.model, self.tok = hparams.model_name
            self.model_name = getattr(self.model, "name_or_path", "") or type(self.model).__name__
        else:
            device = _device(hparams.device)
            self.model, self.tok = load_model(hparams.model_name)
            self.model_name = hparams.model_name
            self.model.to(device)
        self.alg_name, self.apply_algo = hparams.alg_name, ALG_DICT[hparams.alg_name]

    @classmethod
    def from_hparams(cls, hparams: MEMOIRHyperParams) -> BaseEditor:
        """The editor for these settings."""
        return cls(hparams)

    def edit(
        self, prompts: Texts | None = None, target_new: Texts | None = None, ground_truth: Texts | None = None, target_neg: Any = None,
        rephrase_prompts: Texts | None = None, locality_inputs: Inputs | None = None, portability_inputs: Inputs | None = None,
        sequential_edit: bool = False, verbose: bool = True, *, subject: Texts | None = None, loc_prompts: Any = None,
        requests: list[Request] | None = None, **kwargs: Any,
    ) -> Edited:  # fmt: skip
        """Edit, and measure before and after.

        Args:
            prompts, target_new, ...: lists of the same length, or single texts. A target that is a list of texts has
                alternatives: the first is learned, and any of them counts as right.
            sequential_edit: keep every edit (True), or restore the model after each one is measured.
            requests: the same as dictionaries, instead of the lists.
            loc_prompts: unrelated texts; only needed when background features are collected.
            kwargs: see `edit_requests`.

        Returns:
            (metrics: a list of dictionaries, the edited model, an object that restores it).

        Raises:
            ValueError: an argument has the wrong length or is not text.
            TypeError: a keyword is unknown.
        """
        if requests is None:
            requests = requests_from(
                prompts, target_new, ground_truth, target_neg, rephrase_prompts, locality_inputs, portability_inputs, subject, loc_prompts
            )  # fmt: skip
        _refuse_unknown(kwargs, self.edit, self.edit_requests)
        return self.edit_requests(requests, sequential_edit, verbose, **kwargs)

    def edit_requests(
        self, requests: Iterable[Request], sequential_edit: bool = False, verbose: bool = True, test_generation: bool = False,
        eval_metric: str = "token em", pre_edit: list[dict[str, Any]] | None = None, pre_file: str | None = None, **kwargs: Any,
    ) -> Edited:  # fmt: skip
        """`edit` for requests given as dictionaries; the metrics contain them with all their keys.

        Args:
            eval_metric: "token em" (also "token_em", "exact match", "acc"; all mean the share of the target's tokens),
                "ppl" (the target's perplexity) or "ood_ppl" (the share of the reworded passage's tokens with a
                probability above 0.8).
            pre_edit: metrics from before the edits, one per request. None measures them.
            pre_file: a file to write these measured metrics to.
            test_generation: also generate a free continuation of each prompt, under "fluency_text".
        """
        _refuse_unknown(kwargs, self.edit_requests)
        scores.check_metric(eval_metric)
        wanted = checked(requests)
        if self.hparams.RUN_SAVE_BACKGROUND_FEATURES:
            return self._collect(wanted)
        place = scores.place_of(pre_file) if pre_file is not None and pre_edit is None else None
        found = scores.given_before(pre_edit, len(wanted))
        memoir = memoir_of(self.model, self.tok, self.hparams)
        whole = WeightsCopy(memoir)
        measure = functools.partial(scores.measure, memoir, eval_metric=eval_metric, test_generation=test_generation)
        if found is None:
            found = [{"pre": measure(request)} for request in wanted]
            if place is not None:
                scores.write_before(place, found)
        self._edit(memoir, wanted, found, measure, 1, sequential_edit)
        return self._finished(memoir, found, whole, verbose)

    def edit_dataset(self, ds: Iterable[Request], keep_original_weight: bool = False, verbose: bool = True) -> Edited:
        """`edit_requests` for a data set's records; each edit is taken back before the next."""
        return self.edit_requests(list(ds), verbose=verbose)

    def batch_edit(
        self, prompts: Texts, target_new: Texts, ground_truth: Texts | None = None, target_neg: Any = None,
        rephrase_prompts: Texts | None = None, locality_inputs: Inputs | None = None, portability_inputs: Inputs | None = None,
        sequential_edit: bool = True, verbose: bool = True, *, subject: Texts | None = None, loc_prompts: Any = None,
        test_generation: bool = False, eval_metric: str = "token em", **kwargs: Any,
    ) -> Edited:  # fmt: skip
        """Edit `hparams.batch_size` facts at a time, optimised jointly. Arguments and results as for `edit`.

        Args:
            sequential_edit: keep every edit and measure after all of them (True), or measure each batch and then
                restore the model.
        """
        _refuse_unknown(kwargs, self.batch_edit)
        scores.check_metric(eval_metric)
        wanted = checked(
            requests_from(
                prompts, target_new, ground_truth, target_neg, rephrase_prompts, locality_inputs, portability_inputs, subject, loc_prompts
            )
        )  # fmt: skip
        if self.hparams.RUN_SAVE_BACKGROUND_FEATURES:
            return self._collect(wanted)
        memoir = memoir_of(self.model, self.tok, self.hparams)
        whole = WeightsCopy(memoir)
        measure = functools.partial(scores.measure, memoir, eval_metric=eval_metric, test_generation=test_generation)
        found: list[dict[str, Any]] = [{"pre": measure(request)} for request in wanted]
        self._edit(memoir, wanted, found, measure, self.hparams.batch_size, sequential_edit)
        return self._finished(memoir, found, whole, verbose)

    def normal_edit(
        self, prompts: Texts, target_new: Texts, sequential_edit: bool = False
    ) -> tuple[None, Any, WeightsCopy]:
        """Edit one fact after another and keep them, without measuring. Returns (None, the edited model, an object that
        restores it)."""
        edited, restore = apply_memoir_to_model(self.model, self.tok, requests_from(prompts, target_new), self.hparams)
        self.model = edited
        return None, edited, restore

    def generate_edit(
        self, prompts: Texts | None = None, target_new: Texts | None = None, ground_truth: Texts | None = None, target_neg: Any = None,
        rephrase_prompts: Texts | None = None, locality_inputs: Inputs | None = None, portability_inputs: Inputs | None = None,
        sequential_edit: bool = False, verbose: bool = True, *, subject: Texts | None = None, loc_prompts: Any = None,
        requests: list[Request] | None = None, max_new_tokens: int = 32, **kwargs: Any,
    ) -> Edited:  # fmt: skip
        """`edit`, with the model's answers instead of scores: `rewrite_ans`, `rephrase_ans`, `locality_ans`,
        `portability_ans`."""
        _refuse_unknown(kwargs, self.generate_edit)
        if requests is None:
            requests = requests_from(
                prompts, target_new, ground_truth, target_neg, rephrase_prompts, locality_inputs, portability_inputs, subject, loc_prompts
            )  # fmt: skip
        wanted = checked(requests)
        if self.hparams.RUN_SAVE_BACKGROUND_FEATURES:
            return self._collect(wanted)
        memoir = memoir_of(self.model, self.tok, self.hparams)
        whole = WeightsCopy(memoir)
        answer = functools.partial(scores.texts, memoir, max_new_tokens=max_new_tokens)
        found: list[dict[str, Any]] = [{"pre": answer(request)} for request in wanted]
        self._edit(memoir, wanted, found, answer, 1, sequential_edit)
        return self._finished(memoir, found, whole, verbose)

    def _edit(
        self, memoir: MemoirModel, wanted: list[Request], found: list[dict[str, Any]],
        measure: Callable[[Request], dict[str, Any]], size: int, sequential_edit: bool,
    ) -> None:  # fmt: skip
        """Edit `size` requests at a time and complete their entries in `found`, which are measured after all edits or,
        without `sequential_edit`, before each batch is taken back."""
        for start in range(0, len(wanted), size):
            places = range(start, min(start + size, len(wanted)))
            restore = None if sequential_edit else WeightsCopy(memoir)
            facts = [(wanted[n]["prompt"], learned(wanted[n])) for n in places]
            for n, result in zip(places, memoir.edit_many(facts, batch_size=len(facts)), strict=True):
                found[n].update(case_id=n, requested_rewrite=wanted[n], time=result.seconds)
            if restore is not None:
                for n in places:
                    found[n]["post"] = measure(wanted[n])
                restore()
        if sequential_edit:
            for request, entry in zip(wanted, found, strict=True):
                entry["post"] = measure(request)

    def _finished(self, memoir: MemoirModel, found: list[dict[str, Any]], whole: WeightsCopy, verbose: bool) -> Edited:
        for entry in found:
            if "locality" in entry["post"]:
                scores.compare_locality(entry)
            if verbose:
                print(f"case {entry['case_id']}: pre {entry['pre']}, post {entry['post']}")
        self.model = EditedModel(memoir)
        return found, self.model, whole

    def _collect(self, requests: list[Request]) -> Edited:
        collect_background(self.model, self.tok, requests, self.hparams, afresh=True)
        return [], self.model, WeightsCopy(None)


def _refuse_unknown(given: dict[str, Any], *verbs: Callable[..., Any]) -> None:
    """Raise TypeError for unknown keywords, suggesting the nearest known one."""
    known = [name for verb in verbs for name in inspect.signature(verb).parameters if name != "kwargs"]
    for name in given:
        if name not in known and name not in _NOT_NEEDED:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known ones are {', '.join(known)}"
            raise TypeError(f"{verbs[0].__name__}: unknown keyword {name!r}: {hint}")


def _device(device: int | str) -> str:
    """torch's name for a device. Raises ValueError if a GPU is named and torch sees none."""
    name = f"cuda:{device}" if isinstance(device, int) or str(device).isdigit() else str(device)
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device: {device!r} means {name}, and torch sees no GPU here; set `device: cpu`")
    return name
