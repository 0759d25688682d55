"""Saving and loading: bit-equal logits, the base model's identity, and files that are not what they should be."""

from __future__ import annotations

import functools
import os
import shutil
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.store import folder as saving
from tests.support.forging import named_again, resealed
from tests.support.models import background_texts, bits, tiny_memoir, tiny_model, word_tokenizer

EDITS = [("w100 w101 w102 w103", "w150 w151"), ("w110 w111 w112", "w160")]


def _logits(model, text):
    with torch.no_grad():
        return bits(model(input_ids=torch.tensor([model.encoder.prompt(text).tokens])).logits)


@pytest.fixture
def saved(tmp_path):
    model = tiny_memoir(threshold=None)
    for edit in EDITS:
        model.edit(*edit)
    model.save_pretrained(tmp_path / "memory")
    return model, tmp_path / "memory"


def test_loading_gives_bit_equal_logits_and_goes_on_the_same(saved):
    model, folder = saved
    again = MemoirModel.load(folder, tiny_model("llama"), word_tokenizer())
    for text in (EDITS[0][0], EDITS[1][0], "w30 w31 w32 w33"):
        assert torch.equal(_logits(model, text), _logits(again, text))
    assert again.threshold.median == model.threshold.median
    # The folder's edits are none of its journal's records; all else is kept.
    assert (
        again.edits == {i: {**row, "seq": 0} for i, row in model.edits.items()}
        and again.config == model.config
        and again.contexts == model.contexts
    )
    first, second = model.edit("w120 w121", "w170"), again.edit("w120 w121", "w170")
    assert (first.id, first.loss) == (second.id, second.loss) == (2, first.loss)
    assert torch.equal(bits(model.memory.V), bits(again.memory.V))


def test_what_earlier_edits_read_is_saved(tmp_path):
    model = tiny_memoir(write="preconditioned")
    for edit in EDITS:
        model.edit(*edit)
    model.save_pretrained(tmp_path)
    again = MemoirModel.load(tmp_path, tiny_model("llama"), word_tokenizer())
    assert torch.equal(model.memory.C, again.memory.C)
    model.edit("w100 w101 w120", "w170"), again.edit("w100 w101 w120", "w170")
    assert torch.equal(bits(model.memory.V), bits(again.memory.V))
    with pytest.raises(ValueError, match="write"):
        MemoirModel.load(tmp_path, tiny_model("llama"), word_tokenizer(), write="sgd")


def test_only_the_memory_is_written(saved):
    _, folder = saved
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "edits.json", "memory.safetensors"]
    assert sum(p.stat().st_size for p in folder.iterdir()) < 100_000


def test_another_base_model_is_refused(saved):
    _, folder = saved
    with pytest.raises(ValueError, match="weight"):
        MemoirModel.load(folder, tiny_model("llama", seed=1), word_tokenizer())
    with pytest.raises(ValueError, match="architecture"):
        MemoirModel.load(folder, tiny_model("mistral"), word_tokenizer())
    other = word_tokenizer()
    other.add_tokens(["new"])
    refused = tiny_model("llama")
    with pytest.raises(ValueError, match="tokenizer"):
        MemoirModel.load(folder, refused, other)
    assert type(refused.model.layers[1].mlp.down_proj) is torch.nn.Linear  # detached again


def test_the_fingerprint_does_not_depend_on_the_loaded_dtype(saved, tmp_path):
    model, folder = saved
    half = MemoirModel.load(folder, tiny_model("llama").to(torch.bfloat16), word_tokenizer())
    assert half.fingerprint == model.fingerprint
    assert half.memory.V.dtype == torch.float32
    checkpoint = tmp_path / "checkpoint"
    tiny_model("llama").save_pretrained(checkpoint)
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float16)  # rounds otherwise than bfloat16
    assert MemoirModel.load(folder, loaded, word_tokenizer()).fingerprint["weight"] == model.fingerprint["weight"]


def test_settings_that_shape_the_memory_cannot_change(saved):
    _, folder = saved
    with pytest.raises(ValueError, match="top_k"):
        MemoirModel.load(folder, tiny_model("llama"), word_tokenizer(), top_k=16)
    changed = MemoirModel.load(folder, tiny_model("llama"), word_tokenizer(), threshold=0.9, steps=5)
    assert changed.threshold.median == 0.9 and changed.config.steps == 5


def _config(folder, **changes):
    resealed(folder, lambda values: values.update(changes))


def _edits(folder, text):
    (folder / "edits.json").write_text(text)
    named_again(folder, "edits.json")


def _tensors(folder, **changes):
    tensors = {**load_file(folder / "memory.safetensors"), **changes}
    save_file({k: v for k, v in tensors.items() if v is not None}, folder / "memory.safetensors")
    named_again(folder, "memory.safetensors")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json: there is no such file"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "expected a JSON object"),
        (lambda f: _config(f, format="other"), "format is 'other'"),
        (lambda f: _config(f, format_version=99), "format_version is 99"),
        (lambda f: _config(f, scale=0.0), "scale"),
        (lambda f: _config(f, scale=float("nan")), "NaN is not a number"),
        (lambda f: _config(f, scale=10**400), "too large|scale"),
        (lambda f: _config(f, next_id=-1), "next_id"),
        (lambda f: _config(f, next_id=10**30), "next_id"),
        (lambda f: _config(f, fingerprint={"in_features": 1 << 40, "out_features": 1}), "in_features"),
        (
            lambda f: (f / "config.json").write_text(
                (f / "config.json").read_text().replace('"next_id": 2', '"next_id": 3')
            ),
            "checksum",
        ),
        (lambda f: _config(f, config=None), "malformed field"),
        (lambda f: (f / "edits.json").unlink(), "edits.json: there is no such file"),
        (lambda f: (f / "edits.json").write_text("[]"), "edits.json: its checksum is not"),
        (lambda f: _edits(f, "[]"), "tensor 'ids'"),
        (lambda f: (f / "memory.safetensors").unlink(), "memory.safetensors: there is no such file"),
        (lambda f: (f / "memory.safetensors").write_bytes(b"x" * 50), "checksum is not"),
        (lambda f: _tensors(f, V=None), "tensor 'V' is nothing"),
        (lambda f: _tensors(f, V=torch.zeros(96, 31)), "tensor 'V' is"),
        (
            lambda f: _tensors(
                f, **{"V": torch.full((96, 32), torch.nan), "V.rows": torch.arange(96, dtype=torch.int32)}
            ),
            "NaN",
        ),
        (lambda f: _tensors(f, ids=torch.tensor([0, 7])), "its ids are not"),
        (lambda f: _tensors(f, permutation=torch.zeros(96, dtype=torch.int32)), "permutation"),
        (lambda f: _tensors(f, signatures=torch.zeros(2, 12, dtype=torch.uint8)), "exactly 24 ones"),
    ],
)
def test_damaged_folders_are_refused(saved, damage, says):
    _, folder = saved
    damage(folder)
    with pytest.raises(ValueError, match=says):
        MemoirModel.load(folder, tiny_model("llama"), word_tokenizer())


def test_unknown_settings_of_a_newer_version_are_named():
    with pytest.warns(UserWarning, match="brand_new"):
        MemoirConfig.from_dict({"steps": 3, "brand_new": 1})


def test_a_second_memory_on_one_model_is_refused():
    model = tiny_memoir()
    with pytest.raises(ValueError, match="carries a memory already"):
        MemoirModel(model.model, model.tokenizer, MemoirConfig(), background_texts())


# ---- a save is whole or not there --------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for the process's end: nothing behind it is done."""


def test_a_save_killed_anywhere_leaves_the_old_memory_or_the_new_one(saved, tmp_path, monkeypatch):
    model, folder = saved
    old = saving.read(folder)
    model.edit("w120 w121", "w170")
    model.save_pretrained(tmp_path / "whole")
    new, seen = saving.read(tmp_path / "whole"), []
    real = {name: getattr(os, name) for name in ("replace", "fsync", "write", "unlink", "rmdir", "mkdir")}
    for at in range(1, 200):
        target, calls = tmp_path / "target", [0]
        shutil.copytree(folder, target)

        def counted(name, *args, calls=calls, at=at, **kwargs):
            calls[0] += 1
            if calls[0] >= at:
                if calls[0] == at and name == "write":
                    real[name](args[0], bytes(args[1])[: len(args[1]) // 2])
                raise Killed
            return real[name](*args, **kwargs)

        for name in real:
            monkeypatch.setattr(os, name, functools.partial(counted, name))
        try:
            model.save_pretrained(target)
            done = True
        except Killed:
            done = False
        monkeypatch.undo()
        found = saving.read(target)
        assert len(found.edits) in (2, 3) and (not done or len(found.edits) == 3)
        for name, tensor in (old if len(found.edits) == 2 else new).tensors.items():
            assert torch.equal(found.tensors[name], tensor), (at, name)
        seen.append(len(found.edits))
        model.save_pretrained(target)  # the next save puts everything right
        assert sorted(p.name for p in target.iterdir()) == ["config.json", "edits.json", "memory.safetensors"]
        assert len(saving.read(target).edits) == 3
        shutil.rmtree(target)
        if done:
            break
    assert done and seen == sorted(seen) and set(seen) == {2, 3} and len(seen) > 15


def test_readers_beside_a_saving_process_see_one_save_or_the_other(saved):
    model, folder = saved
    stop, failures = threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                assert len(saving.read(folder).edits) in (2, 3)
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(10):
        model.edit("w120 w121", "w170") if len(model.memory) == 2 else model.delete(max(model.edits))
        model.save_pretrained(folder)
    stop.set(), thread.join()
    assert failures == []


def test_a_save_follows_no_link(saved, tmp_path):
    model, folder = saved
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "config.json").write_text("mine")
    os.symlink(tmp_path / "outside", folder / "saving.part")
    assert len(saving.read(folder).edits) == 2
    model.save_pretrained(folder)
    assert (tmp_path / "outside" / "config.json").read_text() == "mine" and len(saving.read(folder).edits) == 2
    for name in ("config.json", "edits.json", "memory.safetensors"):
        (folder / name).rename(tmp_path / "outside" / name)
        os.symlink(tmp_path / "outside" / name, folder / name)
        with pytest.raises(ValueError, match="symbolic link"):
            saving.read(folder)
        (folder / name).unlink()
        (tmp_path / "outside" / name).rename(folder / name)


def test_a_folder_in_a_files_place_or_the_reverse_is_told_in_a_sentence_before_anything_is_replaced(saved, tmp_path):
    _, sound = saved
    state, names = saving.load_state(sound), ["config.json", "edits.json", "memory.safetensors"]
    aside = [f"saving.part/{name}" for name in [*names, "edits.json.part", "mine"]]
    for number, (place, begun) in enumerate((p, b) for p in [*names, *aside] for b in (False, True)):
        folder = tmp_path / str(number)
        shutil.copytree(sound, folder)
        if begun:  # a save that was interrupted once it counted
            shutil.copytree(sound, folder / "saving.part")
        (folder / place).unlink(missing_ok=True)
        (folder / place / "within").mkdir(parents=True)
        kept = {path: path.read_bytes() for path in folder.glob("*.*") if path.is_file()}
        says = "is none of a save's files" if place.endswith("mine") else "is a folder where a file belongs"
        with pytest.raises(ValueError, match=rf"{folder / place}: {says}: move it away"):
            saving.write(folder, state, 0.5)
        assert (folder / place / "within").is_dir()
        if place in names:
            assert {path: path.read_bytes() for path in kept} == kept
        shutil.rmtree(folder / place)
        saving.write(folder, state, 0.5)
        assert sorted(p.name for p in folder.iterdir()) == names and len(saving.read(folder).edits) == 2
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "memory"):
        with pytest.raises(ValueError, match="is a file where a folder belongs: name another folder"):
            saving.write(place, state, 0.5)
    assert (tmp_path / "file").read_text() == "mine"
