"""The real EasyEdit, as far as a package registry has it: its editor, scores and dictionary of algorithms, with ours in the dictionary.

The package `easyeditor` 0.0.1.dev0 (2023) is the only one published. It wants transformers 4.30 and fifteen packages, nearly all for its own
methods; those (`easyeditor.models`, `.dataset`, `.trainer`) are left out here, and so is the package's own front, which imports them. What
runs is theirs: `editors/editor.py`, `evaluate/`, `util/`. `make test-oldest` installs it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
import types
from dataclasses import dataclass, field

import pytest
import torch
from torch.overrides import TorchFunctionMode

from memoir_fast.compat.easyedit import EditedModel, MEMOIRHyperParams, apply_memoir_to_model
from tests.compat.support import LOCAL, PROMPTS, REPHRASED, TARGETS, logits
from tests.support.models import bits, tiny_model, word_tokenizer

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("easyeditor") is None, reason="easyeditor is not installed (make test-oldest installs it)"
)
_LEFT_OUT = ("easyeditor.models", "easyeditor.dataset", "easyeditor.trainer", "scipy", "nltk")


class _Nothing(types.ModuleType):
    """Stands for a module that EasyEdit imports for other methods: any name in it is a class that does nothing."""

    __path__: tuple[str, ...] = ()

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"apply_to_model": None})


class _LeftOut:
    """Finds `_Nothing` for what is left out, unless it is installed."""

    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(f"{one}.") for one in _LEFT_OUT):
            return importlib.util.spec_from_loader(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Nothing(spec.name)

    def exec_module(self, module):
        return None


class _OnTheCPU(TorchFunctionMode):
    """EasyEdit names the device `cuda:N` whatever there is: where torch has no GPU, what is moved there stays."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        def here(value):
            return "cpu" if isinstance(value, (str, torch.device)) and str(value).startswith("cuda") else value

        return function(*map(here, args), **{name: here(value) for name, value in (kwargs or {}).items()})


@pytest.fixture(scope="module")
def easyedit(tmp_path_factory):
    """EasyEdit's modules (`editors.editor`, `util.generate`), imported without what is left out; its log goes to a folder of its own."""
    before, folder, finder = set(sys.modules), os.getcwd(), _LeftOut()
    handlers, level = list(logging.root.handlers), logging.root.level
    (place,) = importlib.util.find_spec("easyeditor").submodule_search_locations
    os.chdir(tmp_path_factory.mktemp("easyedit"))
    sys.meta_path.insert(0, finder)
    for name, inside in (("easyeditor", place), ("easyeditor.editors", os.path.join(place, "editors"))):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [inside]
    try:
        yield importlib.import_module("easyeditor.editors.editor"), importlib.import_module("easyeditor.util.generate")
    finally:
        sys.meta_path.remove(finder)
        for name in set(sys.modules) - before:
            if name.split(".")[0] in {one.split(".")[0] for one in _LEFT_OUT}:
                del sys.modules[name]
        logging.root.handlers[:], logging.root.level = handlers, level
        os.chdir(folder)


@dataclass
class TheirParams:
    """Settings as EasyEdit's own class for this method holds them: the published keys as attributes, nothing of ours."""

    model_name: object
    alg_name: str = "MEMOIR"
    device: int = 0
    edit_lr: float = 3.0
    n_iter: int = 60
    objective_optimization: str = "only_label"
    inner_params: list[str] = field(default_factory=lambda: ["model.layers[1].mlp.down_proj.weight"])
    model_parallel: bool = False
    use_chat_template: bool = False
    top_k: int = 24
    irr_threshold: float = 0.7
    prompt_feature_agg: str = "mean_decentered"
    dir_background_features: str | None = None
    batch_size: int = 1
    max_length: int = 30


def _editor(module, hparams):
    module.ALG_DICT["MEMOIR"] = apply_memoir_to_model
    with contextlib.nullcontext() if torch.cuda.is_available() else _OnTheCPU():
        editor = module.BaseEditor.from_hparams(hparams)
    editor.model_name = "tiny-llama"  # its scores look for "t5" in the name, which a (model, tokenizer) pair has not
    return editor


def _edit(editor, *args, **kwargs):
    with contextlib.nullcontext() if torch.cuda.is_available() else _OnTheCPU():
        return editor.edit(*args, verbose=False, **kwargs)


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_easyedits_editor_edits_measures_and_restores(whose, easyedit, hparams):
    if whose == "theirs":
        hparams = TheirParams((tiny_model("llama"), word_tokenizer()))
    else:
        hparams.device = 0
    module, _ = easyedit
    editor = _editor(module, hparams)
    found, edited, restore = _edit(
        editor, PROMPTS, TARGETS, rephrase_prompts=REPHRASED, locality_inputs=LOCAL, subject=["w101", "w112"],
        portability_inputs={"hop": {"prompt": PROMPTS, "ground_truth": TARGETS}}, keep_original_weight=True,
    )  # fmt: skip
    assert isinstance(edited, EditedModel) and [entry["case_id"] for entry in found] == [0, 1]
    for entry, prompt, target in zip(found, PROMPTS, TARGETS, strict=True):
        assert entry["requested_rewrite"]["prompt"] == prompt and entry["requested_rewrite"]["target_new"] == target
        assert entry["pre"]["rewrite_acc"] < entry["post"]["rewrite_acc"] == [1.0]
        assert entry["post"]["portability"] == {"hop_acc": [1.0]}
        assert entry["post"]["locality"] == {"neighborhood_acc": [1.0]}
    # It walks what came back after each edit, and the model is the base model again.
    base = tiny_model("llama").to(editor.model.device)
    assert len(edited.memoir.memory) == 0 and restore.items()
    assert torch.equal(bits(logits(editor.model, PROMPTS[0])), bits(logits(base, PROMPTS[0])))


def test_easyedits_own_loop_over_an_edited_model_goes_on_with_the_edit(easyedit, hparams):
    module, generate = easyedit
    hparams.device = 0
    editor = _editor(module, hparams)
    requests = [{"prompt": p, "target_new": t} for p, t in zip(PROMPTS, TARGETS, strict=True)]
    edited, _ = editor.apply_algo(editor.model, editor.tok, requests, editor.hparams, return_orig_weights=True)
    if "past_key_values" not in editor.model(torch.tensor([[3, 4]], device=editor.model.device)):
        pytest.skip("this version of transformers has no past_key_values any more, which EasyEdit's loop asks for")
    for prompt, target in zip(PROMPTS, TARGETS, strict=True):
        length = len(f"{prompt} {target}".split())
        (text,) = generate.generate_fast(edited, editor.tok, [prompt], top_k=1, max_out_len=length)
        assert text == f"{prompt} {target}"


def test_settings_without_the_published_keys_are_refused(hparams):
    request = [{"prompt": PROMPTS[0], "target_new": TARGETS[0]}]
    with pytest.raises(TypeError, match=r"hparams must be settings with the published keys.*got dict"):
        apply_memoir_to_model(*hparams.model_name, request, {"alg_name": "MEMOIR"})
    with pytest.raises(ValueError, match="alg_name must be MEMOIR, got 'WISE'"):
        apply_memoir_to_model(*hparams.model_name, request, TheirParams("x", alg_name="WISE"))
    theirs = TheirParams("x", max_length=None)
    assert MEMOIRHyperParams.of(theirs).max_length == 30 and MEMOIRHyperParams.of(hparams) is hparams
    assert not hparams.model_name[0]._forward_hooks
