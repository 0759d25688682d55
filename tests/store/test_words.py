"""What a store keeps of its edits' words, through everything that makes its memory anew."""

from __future__ import annotations

import pytest
import torch

from memoir_fast import BackgroundTexts, MemoirModel
from memoir_fast.serving.tables import tables_of
from memoir_fast.store import Store, export_bundle, import_bundle
from tests.support.models import background_texts, tiny_memoir, tiny_model, word_tokenizer

FACTS = [("w100 w101 w102", "w150"), ("w110 w111 w112 w113", "w151"), ("w120 w121", "w152"), ("w130 w131 w132", "w153")]
PROMPTS = [*(prompt for prompt, _ in FACTS), "w102 w101 w100", "w40 w41 w120 w121", "w30 w31 w32"]


@pytest.fixture
def model(tmp_path):
    """Three edits in a store, the first with a rephrasing."""
    made = tiny_memoir(router="tokens", threshold=None, steps=2)
    made.create_store(str(tmp_path / "s"))
    made.edit(*FACTS[0], rephrasings=["w102 w101 w100"])
    for prompt, target in FACTS[1:3]:
        made.edit(prompt, target)
    yield made
    made.close()


def opened(folder, **settings) -> MemoirModel:
    return MemoirModel.open(str(folder), tiny_model("llama"), word_tokenizer(), **settings)


def told(model) -> list:
    return [(route["edit"], round(route["score"], 6)) for route in model.route(PROMPTS)]


def test_a_memory_that_is_made_again_from_its_snapshot_is_found_by_the_same_words(model):
    model.store.compact()
    model.edit(*FACTS[3])
    wanted = told(model)
    assert [edit for edit, _ in wanted] == [0, 1, 2, 3, 0, 2, None]
    model.store.reload()
    assert told(model) == wanted


def test_a_reader_follows_also_past_updates_that_were_given_up(model, tmp_path):
    reader = opened(tmp_path / "s", read_only=True)
    assert told(reader) == told(model)
    model.edit(*FACTS[3])
    model.delete(1)
    assert reader.refresh() == 2 and told(reader) == told(model)
    model.store.compact(forget_before=2)
    model.edit("w140 w141 w142", "w154")
    model.store.compact(forget_before=9)
    assert reader.refresh() == 1 and told(reader) == told(model)
    assert reader.route("w140 w141 w142")["edit"] == 4


def test_calibrating_with_other_prompts_is_kept_and_goes_into_a_bundle(model, tmp_path):
    records = background_texts().records
    near = [(f"{prompt} w120 w121", "") for prompt, _ in records]  # every one of them comes near edit 2
    before = model.threshold.value
    threshold = model.calibrate(rate=0.02, background=BackgroundTexts(near))
    assert threshold == model.threshold.value >= before
    base = model.store.manifest.base_file
    assert base == "base-000001.safetensors" and not (tmp_path / "s" / "base.safetensors").exists()
    model.calibrate(background=BackgroundTexts(near[:-1]))
    assert [path.name for path in (tmp_path / "s").glob("base*")] == ["base-000002.safetensors"]
    wanted, unrelated = told(model), model.threshold.unrelated
    export_bundle(model.store, tmp_path / "b.mfb")
    model.close()
    import_bundle(tmp_path / "b.mfb", tmp_path / "imported").close()
    for folder in ("s", "imported"):
        again = opened(tmp_path / folder)
        assert told(again) == wanted and again.config.false_activation_rate == 0.02
        assert [one.tokens for one in again.threshold.unrelated] == [one.tokens for one in unrelated]
        assert again.store.verify()["problems"] == []
        again.close()


def test_a_store_made_by_words_can_go_over_to_masks_and_back(model, tmp_path):
    wanted = told(model)
    model.close()
    masks = opened(tmp_path / "s", router="mask")
    assert masks.router.words is None and masks.route(FACTS[0][0])["edit"] == 0
    masks.edit(*FACTS[3])
    masks.close()
    with Store(tmp_path / "s") as store:  # the rule is the store's now, with what it is calibrated by
        assert store.manifest.config.router == "mask" and len(store.calibration) > 0
        tensors = tables_of(store)
        assert len(tensors["memoir.threshold"]) == 4 and not len(tensors["memoir.words"])
    words = opened(tmp_path / "s", router="tokens")
    assert told(words)[:3] == wanted[:3] and told(words)[3][0] == 3  # what was edited meanwhile is read again
    words.close()
    with Store(tmp_path / "s") as store, pytest.raises(ValueError, match="edit 3 was made while masks routed"):
        tables_of(store)


def test_words_of_an_earlier_store_are_measured_once(tmp_path):
    old = tiny_memoir(router="mask", steps=2)
    old.create_store(str(tmp_path / "s"))
    old.edit(*FACTS[0])
    old.close()
    opened(tmp_path / "s", router="tokens").close()
    with Store(tmp_path / "s") as store:
        assert store.words is not None and store.manifest.config.router == "tokens"
        kept = store.words["coder.transform"]
    again = opened(tmp_path / "s")
    assert torch.equal(again.kept.words["coder.transform"], kept) and again.route(FACTS[0][0])["edit"] == 0
    again.close()
