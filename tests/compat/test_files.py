"""Files as they are published: ROME's nested CounterFact, KnowEdit's lists, records without locality, other methods' YAML."""

from __future__ import annotations

import json
import warnings

import pytest

from memoir_fast.compat.data import load_records
from memoir_fast.compat.params import MEMOIRHyperParams
from memoir_fast.compat.run_editing import find_file
from memoir_fast.compat.run_editing import main as run_editing
from tests.compat.support import PROMPTS, REPHRASED, TARGETS, YAML
from tests.support.models import tiny_model, word_tokenizer

ROME = {
    "case_id": 0, "pararel_idx": 2796,
    "requested_rewrite": {"prompt": "w100 {} w102", "relation_id": "P103", "target_new": {"str": "w150", "id": "Q1"},
                          "target_true": {"str": "w160", "id": "Q2"}, "subject": "w101"},
    "paraphrase_prompts": ["w100 w102 w101", "w5"], "neighborhood_prompts": ["w30 w31", "w32"], "attribute_prompts": ["w1"],
    "generation_prompts": ["w2"],
}  # fmt: skip
KNOWEDIT = {
    "subject": "w101", "prompt": "w100 w101 w102", "target_new": "w150", "ground_truth": ["w160", "w161"], "rephrase_prompt": "w100 w102 w101",
    "portability": {"Reasoning": [{"prompt": "w100 w101 w102", "ground_truth": [["w150", "w179"]]}],
                    "Subject_Aliasing": [{"prompt": "w99", "ground_truth": [[""]]}]},
    "locality": {"Relation_Specificity": [{"prompt": "w30 w31", "ground_truth": [["w32", "w33"]]}, {"prompt": "w34", "ground_truth": []}]},
}  # fmt: skip


def _written(tmp_path, records, name="data.json"):
    path = tmp_path / name
    path.write_text(json.dumps(records))
    return path


def test_romes_nested_counterfact(tmp_path):
    (record,) = load_records(_written(tmp_path, [ROME]), "counterfact")
    assert (record.prompt, record.target_new, record.ground_truth, record.subject) == (
        "w100 w101 w102",
        "w150",
        "w160",
        "w101",
    )
    assert (record.rephrase_prompt, record.locality_prompt, record.locality_ground_truth) == (
        "w100 w102 w101",
        "w30 w31",
        "w160",
    )
    broken = {"requested_rewrite": {"prompt": "{}", "subject": "w1", "target_new": "w2"}}
    with pytest.raises(ValueError, match=r"record 1: requested_rewrite must have"):
        load_records(_written(tmp_path, [broken]), "counterfact")


def test_knowedits_lists(tmp_path):
    (record,) = load_records(_written(tmp_path, [KNOWEDIT]), "KnowEdit")
    assert record.ground_truth == ["w160", "w161"] and record.rephrase_prompt == "w100 w102 w101"
    request = record.request()
    assert request["portability"] == {"Reasoning": {"prompt": ["w100 w101 w102"], "ground_truth": [["w150", "w179"]]}}
    assert request["locality"] == {"Relation_Specificity": {"prompt": ["w30 w31"], "ground_truth": [["w32", "w33"]]}}
    wikibio = {"text": "w100 w101", "labels": "w150 w151", "concept": "w101", "locality": KNOWEDIT["locality"]}
    assert load_records(_written(tmp_path, [wikibio]), "KnowEdit")[0].target_new == "w150 w151"
    with pytest.raises(ValueError, match="locality, Other: expected objects"):
        load_records(_written(tmp_path, [{**KNOWEDIT, "locality": {"Other": ["w1"]}}]), "KnowEdit")


def test_several_right_answers_are_alternatives(tmp_path):
    several = {"src": "w100", "alt": ["w150", "w151", ""], "loc": "w30", "loc_ans": ["w31"]}
    (record,) = load_records(_written(tmp_path, [several]), "ZsRE")
    assert record.target_new == ["w150", "w151"] and record.locality_ground_truth == "w31"
    with pytest.raises(ValueError, match="NaN is not a number that JSON knows"):
        load_records(_written(tmp_path, [{**several, "alt": float("nan")}]), "ZsRE")
    for bad in (5, [3], [], [""]):
        with pytest.raises(ValueError, match="field alt / target_new"):
            load_records(_written(tmp_path, [{**several, "alt": bad}]), "ZsRE")


def test_records_without_locality_say_so(tmp_path):
    rows = [{"src": "w100", "alt": "w150", "loc": "w30", "loc_ans": answer} for answer in ("w31", "", None)]
    with pytest.warns(UserWarning, match=r"2 of 3 records have no locality prompt.*record 2, record 3.*the other 1"):
        records = load_records(_written(tmp_path, rows), "ZsRE")
    assert [bool(record.request()["locality"]) for record in records] == [True, False, False]
    (record,) = load_records(_written(tmp_path, [{**rows[0], "rephrase": "", "subject": " "}]), "ZsRE")
    assert record.rephrase_prompt is record.subject is None
    with pytest.warns(UserWarning, match="1 of 1 .* it is not measured"):
        load_records(_written(tmp_path, rows[1:2]), "ZsRE")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_records(_written(tmp_path, rows[:1]), "ZsRE")


@pytest.mark.filterwarnings("ignore:.*no locality")
@pytest.mark.parametrize(("data_type", "record"), [("counterfact", ROME), ("KnowEdit", KNOWEDIT)])
def test_the_script_runs_on_them(data_type, record, tmp_path, monkeypatch):
    monkeypatch.setattr("memoir_fast.compat.easyedit.load_model", lambda name: (tiny_model("llama"), word_tokenizer()))
    (tmp_path / "tiny.yaml").write_text(YAML)
    without = {key: value for key, value in record.items() if key not in ("locality", "neighborhood_prompts")}
    _written(tmp_path, [record, without], f"{data_type}.json")
    options = [
        f"--hparams_dir={tmp_path / 'tiny.yaml'}",
        f"--data_dir={tmp_path}",
        f"--data_type={data_type}",
        f"--output_dir={tmp_path}",
    ]
    assert run_editing(options) == 0
    (first, second) = json.loads((tmp_path / "none_MEMOIR_N=2_Sequential=False.json").read_text())
    assert first["post"]["rewrite_acc"] == [1.0] and list(first["post"]["locality"].values()) == [[1.0]]
    assert second["post"]["locality"] == {} and second["post"]["rewrite_acc"] == [1.0]
    assert data_type == "counterfact" or first["post"]["portability"] == {"Reasoning_acc": [1.0]}


def test_the_script_finds_the_published_pair_of_files_and_collects_from_the_other(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr("memoir_fast.compat.easyedit.load_model", lambda name: (tiny_model("llama"), word_tokenizer()))
    (tmp_path / "tiny.yaml").write_text(YAML)
    (tmp_path / "ZsRE").mkdir()
    rows = [
        {"src": p, "alt": t, "rephrase": r, "loc": "w30", "loc_ans": "w31"}
        for p, t, r in zip(PROMPTS, TARGETS, REPHRASED, strict=True)
    ]
    _written(tmp_path / "ZsRE", rows, "zsre_mend_edit.json")
    _written(tmp_path / "ZsRE", [{**row, "loc": "w40 w41"} for row in rows], "zsre_mend_train.json")
    assert find_file(str(tmp_path), "ZsRE").name == "zsre_mend_edit.json"
    options = [f"--hparams_dir={tmp_path / 'tiny.yaml'}", f"--data_dir={tmp_path}", "--data_type=ZsRE", f"--output_dir={tmp_path / 'out'}",
               "--RUN_SAVE_BACKGROUND_FEATURES=True", f"--dir_to_save_background_features={tmp_path / 'features.pt'}"]  # fmt: skip
    assert run_editing(options) == 0
    features = torch.load(tmp_path / "features.pt", weights_only=True)
    assert features.shape == (2, 96) and not (tmp_path / "out").exists()
    # One text twice: rows of one batch round apart on several threads.
    torch.testing.assert_close(features[0], features[1])


def test_yaml_of_other_methods_is_refused_and_the_published_keys_are_understood(tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text(YAML.replace('alg_name: "MEMOIR"', ""))
    with pytest.raises(ValueError, match=r"other.yaml: alg_name is missing"):
        MEMOIRHyperParams.from_hparams(str(path))
    path.write_text(YAML)
    found = MEMOIRHyperParams.from_hparams(hparams_name_or_path=str(path))
    assert found.max_length == 30 and max(found.max_length, 12) == 30  # as EasyEdit uses it
    path.write_text(YAML + "max_length: null\nRUN_SAVE_BACKGROUND_FEATURES: 'False'\n")
    found = MEMOIRHyperParams.from_hparams(str(path))
    assert found.max_length == 30 and found.RUN_SAVE_BACKGROUND_FEATURES is False
    assert found.config().recipe == "published" and found.config().write == "sgd"
    for line, says in (
        ("max_length: many", "max_length must be an integer"),
        ("model_parallel: perhaps", "model_parallel must be true"),
    ):
        path.write_text(YAML + line)
        with pytest.raises(ValueError, match=says):
            MEMOIRHyperParams.from_hparams(str(path))
