"""The `memoir` section of a checkpoint's `config.json`: what an export writes is taken, anything else is refused in a short sentence."""

from __future__ import annotations

import pytest

from memoir_fast.serving.section import check_section, section_of
from tests.support.models import tiny_memoir


@pytest.fixture(scope="module", params=["mask", "tokens"])
def section(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("section") / "s"
    model = tiny_memoir("llama", router=request.param, steps=2, threshold={"mask": 0.7, "tokens": None}[request.param])
    model.create_store(str(folder))
    model.edit("w100 w101 w102 w103", "w150")
    made = section_of(model.store, folder)
    model.close()
    return made


def test_what_an_export_writes_is_taken(section):
    check_section(section)
    check_section(section, 4)
    with pytest.raises(ValueError, match=r"target is 'model\.layers\.1\.mlp\.down_proj'"):
        check_section(section, 1)


def test_words_choose_before_an_early_layer_and_masks_before_none(section):
    other = {"tokens": None, "mask": 0}[section["router"]]
    with pytest.raises(ValueError, match=f"depth is {other}"):
        check_section(section | {"depth": other})


@pytest.mark.parametrize("change", [
    {"format_version": 4}, {"format": "x"}, {"in_features": -1}, {"in_features": 1 << 20}, {"in_features": True}, {"in_features": "48"},
    {"out_features": 0}, {"top_k": 10**9}, {"top_k": "x" * 5000}, {"top_k": None}, {"router": "both"}, {"router": []}, {"feature": {}}, {"acts": None}, {"page_edits": -1}, {"page_edits": None},
    {"chat_template": "yes"}, {"target": 7}, {"store": None}, {"fingerprint": []}, {"seq": 1.5}, {"depth": -1}, {"depth": "x" * 5000},
    {"depth": 2}, {"depth": True}, {"target": "model.layers.1.mlp.up_proj"}, {"target": "layers.x.mlp.down_proj"}, {"target": "model.layers.4.mlp.down_proj"},
    {"target": "model.layers.999999999999.mlp.down_proj"}, {"target": "model.layers.-1.mlp.down_proj"},
], ids=lambda change: str(change)[:40])  # fmt: skip
def test_what_no_export_writes_is_refused(section, change):
    with pytest.raises(ValueError, match=r"(export|Export) the store again") as refused:
        check_section(section | change, 4)
    assert len(str(refused.value)) < 400 and next(iter(change)).split("_")[0] in str(refused.value)


@pytest.mark.parametrize("value", [None, [], "memoir", {}])
def test_no_section_is_refused(value):
    with pytest.raises(ValueError, match="has no memoir section"):
        check_section(value)


def test_each_field_that_is_missing_is_named(section):
    for name in set(section) - {"format", "format_version", "depth", "chat_template"}:
        with pytest.raises(ValueError, match=f"{name} is "):
            check_section({key: value for key, value in section.items() if key != name})
