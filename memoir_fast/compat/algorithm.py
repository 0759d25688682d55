"""The function that EasyEdit's algorithm dictionary calls: `ALG_DICT["MEMOIR"] = apply_memoir_to_model`."""

from __future__ import annotations

import copy as copying
import io
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..base import files
from ..base.attachment import Attachment, attachment_of
from ..base.projection import find_target
from ..defaults import default_top_k
from ..journal.new_state import new_memory
from ..model import MemoirModel
from ..reading.background import load_texts
from ..reading.probe import prompt_features
from ..reading.router import Router
from ..text.encoder import Encoder
from .edited_model import EditedModel, WeightsCopy
from .params import MEMOIRHyperParams
from .requests import Request, checked, learned
from .tensors import load_background

# EasyEdit passes the bare model at every call; this finds its `MemoirModel`, as long as anyone holds that.
_fronts: weakref.WeakValueDictionary[int, MemoirModel] = weakref.WeakValueDictionary()
# When background features are collected: those of a model's requests so far.
_collected: weakref.WeakKeyDictionary[nn.Module, torch.Tensor] = weakref.WeakKeyDictionary()


def memoir_of(model: Any, tok: Any, hparams: MEMOIRHyperParams) -> MemoirModel:
    """The `MemoirModel` of a model that has a memory already, or a new one.

    Raises:
        TypeError, ValueError: the model has a memory that was not made here, or the settings do not fit the model.
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
    return made


def apply_memoir_to_model(
    model: Any,
    tok: Any,
    requests: Iterable[Request],
    hparams: Any,
    copy: bool = False,
    return_orig_weights: bool = False,
    keep_original_weight: bool = False,
    **kwargs: Any,
) -> tuple[Any, WeightsCopy]:
    """Edit `requests` into the model; the function that EasyEdit's algorithm dictionary calls.

    Args:
        model: a Hugging Face model, or what an earlier call returned.
        tok: its tokenizer.
        requests: dictionaries with `prompt` and `target_new`; `{}` in a prompt is replaced by `subject`.
        hparams: the settings, ours or EasyEdit's own `MEMOIRHyperParams`. With RUN_SAVE_BACKGROUND_FEATURES nothing is edited; the features of the requests'
            `loc_prompt` texts are collected, over all calls with this model, and written to
            `dir_to_save_background_features`.
        copy: edit a copy of the model; only for a model without a memory.
        return_orig_weights, keep_original_weight: accepted; the second value returned always restores.
        kwargs: what EasyEdit passes to every method (`train_ds`, ...); ignored.

    Returns:
        (EditedModel, WeightsCopy); when features are collected, the unchanged model and nothing to restore.

    Raises:
        ValueError: a request is malformed, see `requests.checked`. Errors of editing are those of `MemoirModel.edit`.
            The memory is left as it was.
        TypeError: `hparams` lacks the published keys.
    """
    wanted, hparams = checked(requests), MEMOIRHyperParams.of(hparams)
    if hparams.RUN_SAVE_BACKGROUND_FEATURES:
        collect_background(model, tok, wanted, hparams)
        return model, WeightsCopy(None)
    if copy and not isinstance(model, (EditedModel, MemoirModel)):
        model = copying.deepcopy(model)
    memoir = memoir_of(model, tok, hparams)
    before = WeightsCopy(memoir)
    for request in wanted:
        memoir.edit(request["prompt"], learned(request))
    return EditedModel(memoir), before


def collect_background(
    model: Any, tok: Any, requests: list[Request], hparams: MEMOIRHyperParams, afresh: bool = False
) -> None:
    """Measure the prompt features of the requests' `loc_prompt` texts and write them as (n, D) float32.

    Args:
        model, tok: the base model and its tokenizer.
        requests: each with a `loc_prompt`.
        hparams: names the file, `dir_to_save_background_features`.
        afresh: write only these features. Otherwise those of earlier calls are included, because EasyEdit's own editor
            passes one request per call.

    Raises:
        ValueError: a request has no `loc_prompt`, or there is no such folder.
    """
    for number, request in enumerate(requests):
        if not request.get("loc_prompt"):
            raise ValueError(
                f"loc_prompts[{number}] is missing: with RUN_SAVE_BACKGROUND_FEATURES the features of these unrelated texts are collected"
            )
    path = Path(str(hparams.dir_to_save_background_features))
    if not path.parent.is_dir():
        raise ValueError(f"dir_to_save_background_features: there is no folder {str(path.parent)!r}")
    base = model.model if isinstance(model, (EditedModel, MemoirModel)) else model
    found = _features(base, tok, [request["loc_prompt"] for request in requests], hparams)
    if not afresh:
        found = torch.cat([_collected.get(base, found[:0]), found])
    buffer = io.BytesIO()
    torch.save(found, buffer)
    files.replace(path, buffer.getvalue())
    _collected[base] = found
    print(f"background features of {len(found)} texts saved to {path}; nothing was edited")


def _features(model: Any, tok: Any, texts: list[str], hparams: MEMOIRHyperParams) -> torch.Tensor:
    """(n, D) float32: each text's mean projection input, background included. Nothing stays attached to the model."""
    config = hparams.config()
    if attachment_of(model) is not None:
        memoir = memoir_of(model, tok, hparams)
        prompts = [memoir.encoder.prompt(text) for text in texts]
        return prompt_features(model, memoir.router, prompts, config.batch_size).float().cpu()
    target, encoder = find_target(model, config.layer), Encoder.of(model, tok, config)
    config = config.updated(top_k=config.top_k or default_top_k(target.in_features))
    memory = new_memory(config, target, None).to(next(model.get_submodule(target.path).parameters()).device)
    router = Router(memory)
    with Attachment(model, target, router):
        prompts = [encoder.prompt(text) for text in texts]
        return prompt_features(model, router, prompts, config.batch_size).float().cpu()
