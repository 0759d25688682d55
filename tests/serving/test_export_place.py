"""Where an export may be written, what is said where it cannot be, and what becomes of an earlier one."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.serving.export import export_vllm, is_export
from tests.support.models import TINY, background_texts, tiny_memoir


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A base model's folder, and a store of edits of it."""
    folder = tmp_path_factory.mktemp("place")
    model = tiny_memoir("llama", steps=2)
    model.create_store(str(folder / "store"))
    model.edit("w100 w101 w102", "w150")
    tokenizer = model.tokenizer
    model.detach().save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    model.close()
    return folder / "store", str(folder / "base")


def test_an_empty_folder_is_taken(checkpoint, tmp_path):
    (tmp_path / "to").mkdir()
    assert is_export(export_vllm(*checkpoint, tmp_path / "to"))
    assert [path.name for path in tmp_path.iterdir()] == ["to"]
    (tmp_path / "link").symlink_to(tmp_path / "to")
    assert is_export(export_vllm(*checkpoint, tmp_path / "link")) and (tmp_path / "link").is_symlink()


def test_an_export_has_the_template_that_prompts_are_put_into(checkpoint, tmp_path):
    """With `question_template` the base model's tokenizer has none, or another one, which stays."""
    base = tmp_path / "base"
    shutil.copytree(checkpoint[1], base)
    (base / "chat_template.jinja").write_text("another one")
    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    with MemoirModel(
        model,
        tokenizer,
        MemoirConfig(**{**TINY, "chat_template": None}, question_template=True, steps=2),
        background_texts(),
    ) as memoir:
        memoir.create_store(tmp_path / "store")
        memoir.edit("w100 w101 w102", "w150")
        template = memoir.tokenizer.chat_template
    made = export_vllm(tmp_path / "store", str(base), tmp_path / "to")
    assert AutoTokenizer.from_pretrained(made).chat_template == template != "another one"
    assert "Question: " in template and (base / "chat_template.jinja").read_text() == "another one"
    assert json.loads((made / "config.json").read_text())["memoir"]["chat_template"] is True


def test_a_name_of_the_greatest_length_is_taken(checkpoint, tmp_path):
    assert is_export(export_vllm(*checkpoint, tmp_path / ("é" * 127)))


@pytest.mark.parametrize("place", ["file", "file/within", "long", "loop"])
def test_a_place_that_cannot_be_a_folder_is_named_with_the_reason(checkpoint, tmp_path, place):
    (tmp_path / "file").write_text("keep me")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    to = tmp_path / {"long": "x" * 300}.get(place, place)
    with pytest.raises(ValueError, match=r"^to: .* cannot be (looked into|made) \(.+\)\..*choose another"):
        export_vllm(*checkpoint, to)
    assert (tmp_path / "file").read_text() == "keep me" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("earlier", "breaks"), [("none", 1), ("empty", 1), ("export", 1), ("export", 2)])
def test_a_folder_that_cannot_be_renamed_is_said_and_stays(checkpoint, tmp_path, monkeypatch, earlier, breaks):
    """As a mounted volume, or one that something else is using."""
    to = tmp_path / "to"
    if earlier == "empty":
        to.mkdir()
    elif earlier == "export":
        export_vllm(*checkpoint, to)
    before = {path.name for path in to.iterdir()} if to.exists() else None
    rename, calls = Path.rename, []

    def refused(self, target):
        calls.append(self)
        if len(calls) == breaks:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(ValueError, match=r"^to: .* cannot be replaced \(Device or resource busy\).*mounted volume"):
        export_vllm(*checkpoint, to)
    assert ({path.name for path in to.iterdir()} if to.exists() else None) == before
    assert [path.name for path in tmp_path.iterdir()] == ([] if before is None else ["to"])
