"""Sizes from a configuration alone are those of the model that transformers makes of it."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from memoir_fast.base.projection import find_target
from memoir_fast.base.sizes import read_config, sizes_of
from tests.support.families import FAMILIES
from tests.support.models import _SMALL

_MIXTURES = {"mixtral", "qwen3_moe", "olmoe", "gpt_oss", "granitemoe", "qwen2_moe", "deepseek_v2", "deepseek_v3"}


def _saved(family: str, folder):
    """The configuration as a checkpoint's folder holds it, and the model without weights."""
    config = AutoConfig.for_model(family, **{**_SMALL, "tie_word_embeddings": False, **FAMILIES[family]})
    config.save_pretrained(folder)
    with torch.device("meta"):
        return read_config(str(folder)), AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in {"bert", *_MIXTURES}])
def test_a_familys_sizes_are_its_models(family, tmp_path):
    config, model = _saved(family, tmp_path)
    target, found = find_target(model), sizes_of(config)
    assert (found.in_features, found.out_features, found.layer) == (
        target.in_features,
        target.out_features,
        target.layer,
    )
    assert found.vocabulary == model.config.vocab_size and sizes_of(config, -1).layer == found.layers - 1


@pytest.mark.parametrize("family", ["gpt2", "gptj", "codegen", "gpt_bigcode", "bloom", "mpt", "falcon", "gpt_neo"])
def test_families_that_name_no_width_have_four_times_the_hidden_size(family, tmp_path):
    sizes = {"n_embd": 32, "hidden_size": 32, "d_model": 32, "n_head": 4, "n_heads": 4, "num_attention_heads": 4, "num_heads": 4, "rotary_dim": 4,
             "n_layer": 4, "n_layers": 4, "num_layers": 4, "num_hidden_layers": 4, "vocab_size": 200,
             "attention_types": [[["global", "local"], 2]]}  # fmt: skip
    config = AutoConfig.for_model(family, **sizes)
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        target = find_target(AutoModelForCausalLM.from_config(config))
    assert sizes_of(read_config(str(tmp_path))).in_features == target.in_features == 128


@pytest.mark.parametrize("family", sorted(_MIXTURES))
def test_a_mixture_is_planned_for_the_width_that_the_user_says(family, tmp_path):
    config, _ = _saved(family, tmp_path)
    with pytest.raises(ValueError, match=r"mixture of experts.*in_features"):
        sizes_of(config)
    assert sizes_of(config, in_features=48).in_features == 48


def test_the_packaged_models_header_tells_its_sizes():
    found = sizes_of(read_config("smollm2"))
    assert (found.in_features, found.out_features, found.layers, found.vocabulary) == (1536, 576, 30, 49152)


def test_what_cannot_be_read_is_told(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        read_config(str(tmp_path))
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="no JSON object"):
        read_config(str(tmp_path))
    for values, message in (
        ({}, "no number of layers"),
        ({"num_hidden_layers": 4}, "no hidden size"),
        ({"num_hidden_layers": 4, "hidden_size": 32, "model_type": "new"}, "says nowhere how wide"),
        ({"num_hidden_layers": 4, "hidden_size": 32, "intermediate_size": 1.5}, "says nowhere how wide"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(values))
        with pytest.raises(ValueError, match=message):
            sizes_of(read_config(str(tmp_path)))
    with pytest.raises(ValueError, match=r"layer must be in \[-4, 3\]"):
        sizes_of({"num_hidden_layers": 4, "hidden_size": 32, "intermediate_size": 96}, 4)
    (tmp_path / "cut.gguf").write_bytes(b"GGUF" + bytes([3, 0, 0, 0]) + bytes([1] + 7 * [0]) * 2 + b"\xff" * 8)
    with pytest.raises(ValueError, match="header that cannot be read"):
        read_config(str(tmp_path / "cut.gguf"))
