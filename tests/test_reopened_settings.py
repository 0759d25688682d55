"""What a memory that was stored accepts of the settings that made it."""

from __future__ import annotations

import pytest

from memoir_fast import MemoirConfig

STORED = MemoirConfig(layer="model.layers.24.mlp.down_proj", top_k=152, seed=3)


def test_the_same_layer_may_be_named_by_its_number_or_its_path():
    assert STORED.reopened({"layer": 24}) == STORED.reopened({"layer": STORED.layer}) == STORED
    assert MemoirConfig(layer="transformer.h.7.mlp.fc_out").reopened({"layer": 7}).layer == "transformer.h.7.mlp.fc_out"


@pytest.mark.parametrize("layer", [2, 4, 23, -1, True, "model.layers.2.mlp.down_proj", None])
def test_another_layer_may_not(layer):
    with pytest.raises(ValueError, match="layer: the memory was stored with"):
        STORED.reopened({"layer": layer})


def test_settings_of_edits_and_reading_may_change_and_those_of_the_memory_may_not():
    assert STORED.reopened({"steps": 5, "threshold": 0.4}).steps == 5
    for change in ({"top_k": 8}, {"seed": 0}, {"page_edits": 4}):
        with pytest.raises(ValueError, match=f"{next(iter(change))}: the memory was stored with"):
            STORED.reopened(change)
