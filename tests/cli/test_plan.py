"""`memoir-fast plan`, and the same table in `info`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from memoir_fast.store import Store
from tests.cli.support import Commands
from tests.support.stores import K, add, new_store

_CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
           "num_hidden_layers": 32, "vocab_size": 128_256}  # fmt: skip


@pytest.fixture
def run(capsys, monkeypatch):
    return Commands(capsys, monkeypatch)


@pytest.fixture
def large(tmp_path):
    """A folder with nothing but a configuration."""
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "config.json").write_text(json.dumps(_CONFIG))
    return str(tmp_path / "large")


def test_it_needs_a_configuration_and_neither_weights_nor_torch(large):
    """In a process of its own, in less than a second."""
    code = (
        "import sys\nfrom memoir_fast.cli.app import main\n"
        "assert main(sys.argv[1:]) == 0\nprint(*{m.split('.')[0] for m in sys.modules})"
    )
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, "plan", "--model", large], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "transformers", "safetensors"} & set(done.stdout.splitlines()[-1].split())
    assert "D = 14336, d = 4096, k = 1432, pages of 1194 edits; the memory is in layer 27 of 32" in done.stdout
    assert time.perf_counter() - began < 10  # it takes 0.2 s; a machine at work may be slow


def test_its_options_are_what_it_plans_for(run, large):
    found = run.json("plan", "--model", large, "--edits", "500", "--tokens", "40", "--record-dtype", "bfloat16", "--top-k", "2048",
                     "--layer", "-1")  # fmt: skip
    assert {name: found[name] for name in ("edits", "tokens", "record_dtype", "top_k", "layer", "in_features")} == {
        "edits": 500, "tokens": 40, "record_dtype": "bfloat16", "top_k": 2048, "layer": 31, "in_features": 14336}  # fmt: skip
    assert found["disk"]["sum"] == sum(size for name, size in found["disk"].items() if name != "sum")
    whole = run.json("plan", "--model", large, "--edits", "500", "--tokens", "40", "--top-k", "2048")
    assert 1.95 < whole["record"] / found["record"] < 2 and whole["memory"] == found["memory"]
    plain = run.json("plan", "--model", large, "--write", "sgd", "--router", "mask")
    assert plain["memory"]["earlier reads"] == plain["memory"]["words"] == 0
    assert run.json("plan", "--model", large, "--masks", "prompt")["top_k"] == plain["top_k"] == 4096
    assert run.json("plan", "--model", large, "--in-features", "1024")["in_features"] == 1024
    assert "what earlier edits read (C)" in run("plan", "--model", "smollm2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "{tmp}/none"], "there is no folder"),
        (["--model", "{tmp}"], "there is no file"),
        (["--model", "{large}", "--layer", "32"], "layer must be in [-32, 31]"),
        (["--model", "{large}", "--top-k", "20000"], "top_k must be in [1, 14336]"),
    ],
)
def test_what_it_cannot_plan_is_one_sentence(run, large, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run("plan", *(text.format(tmp=tmp_path, large=large) for text in arguments), status=2)
    assert message in run.err and len(run.err.splitlines()) == 1


def test_info_shows_the_same_beside_what_is_there(run, tmp_path):
    with new_store(tmp_path / "s", record_dtype="bfloat16") as store:
        run("info", "--store", str(store.folder))
        assert "predicted and found" in run.out
        for number in range(60):
            add(store, number)
        store.compact()
        log = sum(path.stat().st_size for path in store.folder.glob("log*"))
        found = run.json("info", "--store", str(store.folder))
        snapshot = (store.folder / store.manifest.snapshots[0].file).stat().st_size
    assert found["actual"]["disk"]["log"] == log and found["actual"]["record"] == log / 60
    assert found["actual"]["snapshot"] == found["actual"]["disk"]["snapshots"] == snapshot
    assert found["plan"]["edits"] == 60 and found["plan"]["record_dtype"] == "bfloat16"
    assert found["plan"]["snapshot"] == pytest.approx(snapshot, rel=0.15)
    assert f"{log / 1e6:.3f}" in run("info", "--store", str(tmp_path / "s"))
    with Store(tmp_path / "s") as store:
        assert store.manifest.record_dtype == "bfloat16"


def test_info_says_when_one_page_is_crowded(run, tmp_path):
    """As stores were made before memories had pages: five edits' room at 64 features."""
    with new_store(tmp_path / "s") as store:
        store.configure(replace(store.manifest.config, masks="spread"))
        for number in range(6):
            add(store, number)
            said = run("info", "--store", str(store.folder))
            assert ("crowded: its 6 edits share one page, which has room for about 5" in said) == (number == 5)
            assert (f"{20 * (number + 1)} % full" in said) == (number in (3, 4))
    with new_store(tmp_path / "paged", page_edits=2) as store:
        for number in range(6):
            add(store, number)
        said = run("info", "--store", str(store.folder))
        assert f"k = {K}, pages of 2 edits" in said and "crowded" not in said
