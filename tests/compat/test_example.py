"""examples/lifelong_editing.py, the published experiments' script with changed imports, on a tiny model and files of their layout."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from tests.compat.support import PROMPTS, REPHRASED, TARGETS, YAML
from tests.support.models import tiny_model, word_tokenizer

SCRIPT = Path(__file__).parents[2] / "examples" / "lifelong_editing.py"
FILES = {"ZsRE": "zsre_mend_{}.json", "hallucination": "hallucination-{}.json", "temporal": "temporal-{}.json"}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model, a YAML file and the three data sets, as published."""
    tiny_model("llama").save_pretrained(tmp_path / "org" / "tiny")
    word_tokenizer().save_pretrained(tmp_path / "org" / "tiny")
    (tmp_path / "tiny.yaml").write_text(
        YAML.replace("model_name: none", f"model_name: {tmp_path / 'org' / 'tiny'}").replace(
            "batch_size: 2", "batch_size: 1"
        )
    )
    facts = list(zip(PROMPTS, TARGETS, REPHRASED, strict=True))
    zsre = [
        {"src": p, "alt": t, "rephrase": r, "loc": "w30 w31", "loc_ans": "w32", "subject": "w101"} for p, t, r in facts
    ]
    later = [{"prompt": p, "target_new": t, "ood_rephrase": f"{r} w33 w34", "locality_prompt": "w30 w31", "locality_ground_truth": "w32",
              "subject": "w101"} for p, t, r in facts]  # fmt: skip
    for kind, name in FILES.items():
        (tmp_path / kind).mkdir()
        for part in ("edit", "train"):
            (tmp_path / kind / name.format(part)).write_text(json.dumps(zsre if kind == "ZsRE" else later))
    return tmp_path


def _run(monkeypatch, folder: Path, *options: str) -> None:
    arguments = [
        "--editing_method=MEMOIR",
        f"--hparams_dir={folder / 'tiny.yaml'}",
        f"--data_dir={folder}",
        f"--output_dir={folder / 'out'}",
    ]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments, *options])
    runpy.run_path(str(SCRIPT), run_name="__main__")


@pytest.mark.parametrize(
    ("kind", "score"), [("ZsRE", "rephrase_acc"), ("hallucination", "rewrite_ppl"), ("temporal", "ood_acc")]
)
@pytest.mark.parametrize("sequential", [True, False])
def test_the_published_script_runs(kind, score, sequential, folder, monkeypatch, capsys):
    _run(monkeypatch, folder, f"--data_type={kind}", "--ds_size=2", *(["--sequential_edit"] if sequential else []))
    found = json.loads((folder / "out" / f"tiny_MEMOIR_N=2_Sequential={sequential}.json").read_text())
    assert [entry["case_id"] for entry in found] == [0, 1] and score in found[0]["post"]
    for entry in found:
        assert entry["post"]["locality"] == {"neighborhood_acc": [1.0]}
        if kind == "hallucination":
            assert entry["post"]["rewrite_ppl"] < entry["pre"]["rewrite_ppl"]
        else:
            assert entry["post"]["rewrite_acc"] == [1.0]
    assert score in capsys.readouterr().out


def test_it_collects_background_features(folder, monkeypatch):
    path = folder / "features.pt"
    _run(monkeypatch, folder, "--data_type=ZsRE", "--ds_size=2", "--RUN_SAVE_BACKGROUND_FEATURES=True",
         f"--dir_to_save_background_features={path}")  # fmt: skip
    assert torch.load(path, weights_only=True).shape == (2, 96)
