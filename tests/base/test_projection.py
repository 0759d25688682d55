"""The down projection is found by structure in each family, or by its path."""

from __future__ import annotations

import pytest

from memoir_fast.base.projection import find_target
from memoir_fast.defaults import default_layer, default_page_edits, default_top_k
from tests.support.models import FAMILIES, tiny_model


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_found_by_structure(family):
    _, _, path = FAMILIES[family]
    target = find_target(tiny_model(family), 1)
    assert (target.path, target.layer, target.in_features, target.out_features) == (path, 1, 96, 32)


def test_default_is_27_of_32():
    assert [default_layer(depth) for depth in (32, 30, 4, 1)] == [27, 25, 3, 0]
    assert find_target(tiny_model("llama")).layer == 3
    assert [default_top_k(d) for d in (14336, 1536, 96, 4)] == [4096, 440, 24, 4]
    assert [default_top_k(d, "spread") for d in (14336, 1536, 96, 4)] == [1432, 152, 8, 4]
    assert [default_page_edits(d, "spread") for d in (14336, 1536, 96, 4)] == [1194, 128, 8, 1]
    assert default_page_edits(1536, "prompt") == 0


@pytest.mark.parametrize(
    "path", ["model.layers.2.mlp.down_proj", "model.layers[2].mlp.down_proj.weight", "model.layers[2].mlp.down_proj"]
)
def test_dotted_and_bracketed_paths(path):
    target = find_target(tiny_model("llama"), path)
    assert (target.path, target.layer) == ("model.layers.2.mlp.down_proj", 2)


def test_negative_numbers_count_from_the_end():
    assert find_target(tiny_model("llama"), -1).layer == 3


@pytest.mark.parametrize(
    ("layer", "says"),
    [(4, "must be in"), (-5, "must be in"), ("model.layers.9.mlp.down_proj", "no module"), ("model.norm", "linear"),
     ("lm_head", "not inside the decoder layers")],
)  # fmt: skip
def test_what_is_not_there_is_refused(layer, says):
    with pytest.raises(ValueError, match=says):
        find_target(tiny_model("llama"), layer)


def test_mixture_of_experts_asks_for_a_path():
    from torch import nn

    model = tiny_model("llama")
    model.model.layers[1].mlp.second = nn.Linear(96, 32)
    with pytest.raises(ValueError, match="2 candidates"):
        find_target(model, 1)
