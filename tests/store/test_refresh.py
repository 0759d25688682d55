"""A reader takes up what its writer calibrates with: other prompts, another rate; what the reader chose itself stays."""

from __future__ import annotations

import shutil

import pytest
import torch

from memoir_fast import BackgroundTexts, MemoirModel
from memoir_fast.store import Store, StoreError, manifest
from tests.support.models import background_texts, tiny_memoir, tiny_model, word_tokenizer

# Near the edit's words, so that they move its threshold; fewer than the store began with.
NEAR = BackgroundTexts([(f"{prompt} w120 w121", "") for prompt, _ in background_texts().records[:-5]])


def opened(folder, **settings) -> MemoirModel:
    return MemoirModel.open(str(folder), tiny_model("llama"), word_tokenizer(), read_only=True, **settings)


@pytest.fixture(params=["tokens", "mask"])
def model(request, tmp_path):
    made = tiny_memoir(router=request.param, threshold=None, steps=2)
    made.create_store(str(tmp_path / "s"))
    made.edit("w120 w121 w122", "w152")
    yield made
    made.close()


def calibrated(model) -> tuple:
    """All that a model's thresholds come from, and the thresholds."""
    threshold = model.threshold
    prompts = getattr(threshold, "unrelated", None)
    said = [one.tokens for one in prompts] if prompts is not None else threshold.signatures.tolist()
    return (
        threshold.fixed,
        threshold.rate,
        model.config.false_activation_rate,
        said,
        threshold.largest.tolist(),
        threshold.median,
    )


def test_a_reader_takes_up_other_calibration_prompts(model, tmp_path):
    reader = opened(tmp_path / "s")
    before = calibrated(reader)
    model.calibrate(rate=0.05, background=NEAR)
    assert reader.refresh() == 0 and calibrated(reader) == calibrated(model) != before
    assert reader.store.manifest.base_file == "base-000001.safetensors"
    model.edit("w130 w131", "w153")
    model.calibrate(background=background_texts())
    assert reader.refresh() == 1 and calibrated(reader) == calibrated(model)
    prompts = ["w120 w121 w122", "w130 w131", "w30 w31", "w120 w121"]
    assert [r["threshold"] for r in reader.route(prompts)] == [r["threshold"] for r in model.route(prompts)]
    model.calibrate(rate=0.2)  # another rate alone
    reader.refresh()
    assert calibrated(reader) == calibrated(model) and reader.config.false_activation_rate == 0.2


def test_what_a_reader_was_opened_with_stays(model, tmp_path):
    fixed, strict = opened(tmp_path / "s", threshold=0.9), opened(tmp_path / "s", false_activation_rate=0.3)
    model.calibrate(rate=0.05, background=NEAR)
    for reader in (fixed, strict):
        reader.refresh()
        assert calibrated(reader)[3:5] == calibrated(model)[3:5]
    assert fixed.threshold.fixed == fixed.config.threshold == fixed.threshold.median == 0.9
    assert strict.threshold.rate == strict.config.false_activation_rate == 0.3
    model.calibrate(rate=0.1)
    fixed.refresh(), strict.refresh()
    assert fixed.threshold.fixed == 0.9 and strict.threshold.rate == 0.3


def test_a_reader_of_the_other_rule_keeps_its_own_prompts(tmp_path):
    made = tiny_memoir(router="mask", threshold=None, steps=2)
    made.create_store(str(tmp_path / "s"))
    made.edit("w120 w121 w122", "w152")
    words = opened(tmp_path / "s", router="tokens")
    before = calibrated(words)
    made.calibrate(background=NEAR)
    words.refresh()
    assert calibrated(words) == before and words.route("w120 w121 w122")["edit"] == 0
    made.close()


def test_a_base_file_that_is_replaced_while_it_is_looked_for(model, tmp_path, monkeypatch):
    """Between a manifest and its base file a writer may calibrate once more; so it may while a store is opened."""
    reader, read, again = opened(tmp_path / "s"), manifest.read_tensors, [2]

    def late(path, *rest):
        if again[0] and path.name.startswith("base"):
            again[0] -= 1
            monkeypatch.setattr(manifest, "read_tensors", read)
            model.calibrate(background=NEAR)
            monkeypatch.setattr(manifest, "read_tensors", late)
        return read(path, *rest)

    model.calibrate(background=NEAR)
    monkeypatch.setattr(manifest, "read_tensors", late)
    reader.refresh()
    assert calibrated(reader) == calibrated(model) and again == [0]
    again[0] = 1
    with Store(tmp_path / "s") as store:
        assert store.manifest.base_file == model.store.manifest.base_file == "base-000004.safetensors"


def test_a_missing_base_file_is_said_and_the_reader_goes_on(model, tmp_path):
    reader = opened(tmp_path / "s")
    before = calibrated(reader)
    model.calibrate(background=NEAR)
    (base,) = (tmp_path / "s").glob("base*")
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"base-000001.safetensors: there is no such file"):
        reader.refresh()
    assert calibrated(reader) == before
    (tmp_path / "elsewhere").rename(base)
    reader.refresh()
    assert calibrated(reader) == calibrated(model)


# ---- another store in the same place -----------------------------------------------------------------------------

FACTS = [("w120 w121 w122", "w152"), ("w130 w131 w132", "w153")]


def swapped(folder, router, background=None, **settings) -> MemoirModel:
    """A model that writes into a new store in a folder's place, which holds the same facts under each other's ids."""
    made = tiny_memoir(router=router, threshold=None, steps=2, **settings)
    if background is not None:
        inner = made.detach()
        made = MemoirModel(inner, word_tokenizer(), made.config, background, made.memory.permutation)
    shutil.rmtree(folder)
    made.create_store(str(folder))
    for fact in reversed(FACTS):
        made.edit(*fact)
    return made


@pytest.mark.parametrize("router", ["tokens", "mask"])
def test_other_facts_under_the_same_ids_are_read_by_their_own_words(router, tmp_path):
    first = tiny_memoir(router=router, threshold=None, steps=2)
    first.create_store(str(tmp_path / "s"))
    for fact in FACTS:
        first.edit(*fact)
    first.close()
    reader = opened(tmp_path / "s")
    prompts = [prompt for prompt, _ in FACTS]
    assert [route["edit"] for route in reader.route(prompts)] == [0, 1]
    other = swapped(tmp_path / "s", router)
    reader.refresh()
    assert [route["edit"] for route in reader.route(prompts)] == [1, 0]
    assert torch.equal(reader.memory.V, other.memory.V) and reader.edits == other.edits
    assert calibrated(reader) == calibrated(other)
    other.close()


OTHERS = [
    ("tokens", {"background": NEAR}, "background, the matcher's"),
    ("mask", {"acts": "answer", "feature": "last"}, "acts.*feature"),
]


@pytest.mark.parametrize(("router", "settings", "named"), OTHERS)
def test_a_store_that_reads_otherwise_is_refused_and_the_reader_goes_on(router, settings, named, tmp_path):
    first = tiny_memoir(router=router, threshold=None, steps=2)
    first.create_store(str(tmp_path / "s"))
    first.edit(*FACTS[0])
    first.close()
    reader = opened(tmp_path / "s")
    before, V = (calibrated(reader), dict(reader.edits)), reader.memory.V.clone()
    other = swapped(tmp_path / "s", router, **settings)
    for _ in range(2):
        with pytest.raises(StoreError, match=rf"holds another store now.*{named}"):
            reader.refresh()
        assert (calibrated(reader), dict(reader.edits)) == before and torch.equal(reader.memory.V, V)
    other.close()


def test_a_copy_that_was_calibrated_otherwise_is_taken_up(tmp_path):
    """Both have the same log, and a base file of the same name."""
    model = tiny_memoir(router="mask", threshold=None, steps=2)
    model.create_store(str(tmp_path / "s"))
    model.edit(*FACTS[0])
    shutil.copytree(tmp_path / "s", tmp_path / "copy")
    model.calibrate(background=NEAR)
    reader = opened(tmp_path / "s")
    with MemoirModel.open(str(tmp_path / "copy"), tiny_model("llama"), word_tokenizer()) as copy:
        copy.calibrate(background=BackgroundTexts(NEAR.records[:-9]))
        assert copy.store.manifest.base_file == reader.store.manifest.base_file
        wanted = calibrated(copy)
    model.close()
    shutil.rmtree(tmp_path / "s")
    shutil.move(tmp_path / "copy", tmp_path / "s")
    reader.refresh()
    assert calibrated(reader) == wanted
