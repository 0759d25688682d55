"""The published editor's files, made to do harm: YAML without end, tensors larger than their file, data that is not text."""

from __future__ import annotations

import json
import os
import zipfile

import pytest
import torch

from memoir_fast.compat.data import load_records
from memoir_fast.compat.params import MEMOIRHyperParams
from memoir_fast.compat.tensors import import_memory, load_background
from tests.support.models import tiny_memoir
from tests.support.patience import within

BOMB = "model_name: x\na: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGE = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{','.join(['*' + a] * 9)}]}}\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize("text", [
    BOMB + "edit_lr: *i\n", MERGE, "model_name: x\nedit_lr: .inf\n", "model_name: x\nn_iter: 1e400\n", "model_name: x\nn_iter: .nan\n",
    "model_name: x\ntop_k: " + "9" * 5000, "[" * 20_000, "{a: " * 20_000, "- " * 20_000, "model_name: x\ninner_params: [[[[]]]]\n",
    "model_name: x\ninner_params: {a: 1}\n", "model_name: x\nprompt_feature_agg: [a]\n", "model_name: x\nalg_name: " + "x" * 10_000,
    "? " * 20_000, "model_name: !!python/object/apply:os.system [id]\n", "\x00", "x" * (1 << 20), "model_name: x\nedit_lr: [" + "a," * 5000 + "]\n",
    "model_name: x\nmodel_parallel: 0x" + "f" * 3000 + "\n", "model_name: x\nuse_chat_template: " + "y" * 5000 + "\n",
], ids=lambda t: t[-20:])  # fmt: skip
def test_yaml_that_is_made_to_hurt_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with within(), pytest.raises((ValueError, TypeError), match=r"x\.yaml") as caught:
        MEMOIRHyperParams.from_hparams(str(tmp_path / "x.yaml")).config()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("read", [MEMOIRHyperParams.from_hparams, load_background, load_records])
def test_pipes_are_refused_without_waiting(tmp_path, read):
    os.mkfifo(tmp_path / "x.yaml")
    with within(), pytest.raises(ValueError, match="not a regular file"):
        read(str(tmp_path / "x.yaml"))


def test_latin_1_is_refused_with_the_line_and_the_remedy(tmp_path):
    (tmp_path / "x.yaml").write_bytes("model_name: x\n# Zürich\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"x\.yaml, line 2: byte 0xfc is not UTF-8.*iconv"):
        MEMOIRHyperParams.from_hparams(str(tmp_path / "x.yaml"))


def _deflated(path, tensors):
    torch.save(tensors, path.with_suffix(".plain"))
    with (
        zipfile.ZipFile(path.with_suffix(".plain")) as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for part in plain.infolist():
            packed.writestr(part.filename, plain.read(part))


def test_tensors_larger_than_their_file_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    for tensors in (torch.zeros(1, 96).expand(1 << 40, 96), torch.zeros(1).as_strided((1 << 20, 1 << 20), (0, 0)),
                    torch.zeros(4, 4).to_sparse(), {"a": torch.zeros(1).expand(1 << 50)}, {"a": 7}, [1, 2], "text", torch.zeros(3).int()):  # fmt: skip
        torch.save(tensors, path)
        assert path.stat().st_size < 4000
        with within(), pytest.raises(ValueError, match=r"x\.pt"):
            load_background(path)
    _deflated(path, torch.zeros(1000, 9600))
    assert path.stat().st_size < 100_000
    with within(), pytest.raises(ValueError, match="compressed"):
        load_background(path)
    torch.save(torch.ones(3, 4), path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="not a file of plain tensors"):
        load_background(path)
    path.write_bytes(b"PK\x03\x04" + bytes(500))
    with pytest.raises(ValueError, match="not a file of plain tensors"):
        load_background(path)
    torch.save(torch.ones(3, 4), path)
    assert torch.equal(load_background(path), torch.ones(4))


def test_a_published_memory_of_wrong_types_is_refused(tmp_path):
    model, path = tiny_memoir(), tmp_path / "x.pt"
    good = {
        "new_weight": torch.zeros(32, 96),
        "masks": torch.zeros(0, 96, dtype=torch.bool),
        "permutation": model.memory.permutation.long(),
    }
    for name, value in (("new_weight", 7), ("new_weight", torch.zeros(32, 96).int()), ("masks", "x"), ("masks", torch.zeros(2, 96)),
                        ("masks", torch.tensor(True)), ("permutation", torch.zeros(96)), ("permutation", None),
                        ("masks", torch.zeros(1, 96, dtype=torch.bool).expand(1 << 40, 96))):  # fmt: skip
        torch.save({**good, name: value}, path)
        with within(), pytest.raises(ValueError, match=r"x\.pt"):
            import_memory(model, path)
    assert len(model.memory) == 0


def test_data_that_is_no_text_is_refused_with_its_place(tmp_path):
    path = tmp_path / "d.jsonl"
    good = '{"src": "a", "alt": "b"}\n'
    for data, says in ((good.encode() + b'{"src": "\xe9", "alt": "b"}', "line 2: byte 0xe9"), (b'{"src": "\\ud800", "alt": "b"}', "line 1.*half"),
                       (b"[" * 10**6, "nested deeper"), (b'[{"src": "a", "alt": "\\udfff"}]', "record 1.*half"), (b"[1, 2]", "record 1")):  # fmt: skip
        path.write_bytes(data)
        with within(), pytest.raises(ValueError, match=says):
            load_records(path)
    path.write_bytes(b"\xef\xbb\xbf" + '{"src": "a\u2028b", "alt": "\x85"}\n'.encode() + good.encode())
    path.write_bytes(path.read_bytes().replace("\x85".encode(), "c\u2029".encode()))
    assert [record.prompt for record in load_records(path)] == ["a\u2028b", "a"]


@pytest.mark.parametrize("prompts", [{"a": "b"}, "text", 7])
def test_paraphrases_that_are_no_list_are_refused(tmp_path, prompts):
    rewrite = {"prompt": "{} is", "subject": "a", "target_new": {"str": "b"}, "target_true": {"str": "c"}}
    (tmp_path / "d.json").write_text(json.dumps([{"requested_rewrite": rewrite, "paraphrase_prompts": prompts}]))
    with pytest.raises(ValueError, match="record 1: paraphrase_prompts must be a list of texts"):
        load_records(tmp_path / "d.json", "counterfact")


def test_a_link_that_leads_to_itself_is_refused_in_a_sentence(tmp_path):
    os.symlink(tmp_path / "x.pt", tmp_path / "x.pt")
    for read in (load_background, load_records):
        with pytest.raises(ValueError, match=r"x\.pt"):
            read(tmp_path / "x.pt")


def test_a_long_name_of_a_portability_is_cut(tmp_path):
    record = {"prompt": "a", "target_new": "b", "subject": "a", "portability": {"x" * 5000: [7]}}
    (tmp_path / "d.json").write_text(json.dumps([record]))
    with pytest.raises(ValueError, match="expected objects with prompt and ground_truth") as caught:
        load_records(tmp_path / "d.json", "KnowEdit")
    assert len(str(caught.value)) < 600
