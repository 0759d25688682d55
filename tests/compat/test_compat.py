"""The fronts for the published editor and EasyEdit: each row of the README's migration table, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.compat.data import load_records
from memoir_fast.compat.easyedit import BaseEditor, MEMOIRHyperParams, apply_memoir_to_model, summary_metrics
from memoir_fast.compat.params import SHIPPED
from memoir_fast.compat.run_editing import main as run_editing
from memoir_fast.compat.tensors import export_memory, import_memory, load_background, permutation_of
from memoir_fast.editing.update_rule import settled
from memoir_fast.evaluation import metrics
from tests.compat.support import LOCAL, PROMPTS, REPHRASED, TARGETS, YAML, logits
from tests.support.data import facts_file
from tests.support.models import background_texts, bits, tiny_memoir, tiny_model, word_tokenizer


@pytest.mark.parametrize("sequential", [True, False])
def test_edit_returns_what_easyedit_does(hparams, sequential):
    base = tiny_model("llama")
    editor = BaseEditor.from_hparams(hparams)
    found, edited, restore = editor.edit(
        PROMPTS, TARGETS, rephrase_prompts=REPHRASED, locality_inputs=LOCAL, sequential_edit=sequential, verbose=False,
        keep_original_weight=True, test_generation=True, portability_inputs={"one_hop": {"prompt": PROMPTS, "ground_truth": TARGETS}},
    )  # fmt: skip
    assert [entry["case_id"] for entry in found] == [0, 1]
    for entry, prompt, target in zip(found, PROMPTS, TARGETS, strict=True):
        assert entry["requested_rewrite"]["prompt"] == prompt and entry["requested_rewrite"]["target_new"] == target
        assert entry["time"] > 0
        for stage in ("pre", "post"):
            for name in ("rewrite_acc", "rephrase_acc"):
                assert isinstance(entry[stage][name], list) and all(isinstance(v, float) for v in entry[stage][name])
        assert entry["post"]["rewrite_acc"] == [1.0] > entry["pre"]["rewrite_acc"]
        assert entry["post"]["locality"] == {"neighborhood_acc": [1.0]}
        assert entry["post"]["portability"]["one_hop_acc"] == [1.0] and entry["post"]["fluency_text"].startswith(target)
    summary = summary_metrics(found)
    assert summary["post"]["rewrite_acc"] == 1.0 and summary["post"]["neighborhood_acc"] == 1.0
    assert len(edited.memoir.memory) == (2 if sequential else 0)
    restore()
    assert len(edited.memoir.memory) == 0
    assert torch.equal(bits(logits(edited, PROMPTS[0])), bits(logits(base, PROMPTS[0])))


def test_batch_edit_and_other_metrics(hparams):
    editor = BaseEditor(hparams)
    found, edited, restore = editor.batch_edit(PROMPTS, TARGETS, rephrase_prompts=REPHRASED, verbose=False)
    assert [entry["post"]["rewrite_acc"] for entry in found] == [[1.0], [1.0]] and len(edited.memoir.memory) == 2
    restore()
    found, _, _ = editor.edit(PROMPTS, TARGETS, eval_metric="ppl", sequential_edit=True, verbose=False)
    assert found[0]["post"]["rewrite_ppl"] < found[0]["pre"]["rewrite_ppl"]
    given = [entry["pre"] for entry in found]
    found, _, _ = editor.edit(
        PROMPTS, TARGETS, REPHRASED, rephrase_prompts=REPHRASED, eval_metric="ood_ppl", pre_edit=given, verbose=False
    )
    assert "ood_acc" in found[0]["post"] and found[0]["pre"] == given[0]
    with pytest.raises(ValueError, match="eval_metric"):
        editor.edit(PROMPTS, TARGETS, eval_metric="bleu")
    with pytest.raises(ValueError, match="target_new must have 2 entries"):
        editor.edit(PROMPTS, TARGETS[:1])


def test_apply_in_an_algorithm_dictionary(hparams):
    model, tok = hparams.model_name
    base = tiny_model("llama")
    algorithm = {"MEMOIR": apply_memoir_to_model}["MEMOIR"]
    requests = [{"prompt": p, "target_new": t, "subject": "s"} for p, t in zip(PROMPTS, TARGETS, strict=True)]
    edited, first = algorithm(
        model, tok, requests[:1], hparams, copy=False, return_orig_weights=True, keep_original_weight=True
    )
    again, second = algorithm(edited, tok, requests[1:], hparams)
    assert again.memoir is edited.memoir and len(again.memoir.memory) == 2
    for name, original in second.items():  # the walk of some versions
        target = dict(again.memoir.model.named_parameters())[name]
        assert torch.equal(target, original)
        with torch.no_grad():
            target[...] = original
    assert len(again.memoir.memory) == 1
    first()
    assert torch.equal(bits(logits(again, PROMPTS[0])), bits(logits(base, PROMPTS[0])))
    copied, _ = apply_memoir_to_model(
        tiny_model("llama"), tok, [{"prompt": "w100 {}", "subject": "w101", "target_new": " w150"}], hparams, copy=True
    )
    assert copied.memoir.edits[0]["prompt"] == "w100 w101" and copied.memoir.edits[0]["target"] == "w150"


def test_the_published_call_says_where_the_prompt_ends(hparams):
    edited, _ = apply_memoir_to_model(*hparams.model_name, [{"prompt": PROMPTS[0], "target_new": TARGETS[0]}], hparams)
    whole = torch.tensor([word_tokenizer()(f"{PROMPTS[0]} w30 w31 w32 w33 w34")["input_ids"]])
    with torch.no_grad():
        by_place = edited(input_ids=whole, last_prompt_token_loc_inference=2).logits
        mask = torch.zeros_like(whole, dtype=torch.bool)
        mask[:, :3] = True
        by_mask = edited.memoir(input_ids=whole, prompt_mask=mask).logits
        with edited.memoir.disabled():
            base = edited(input_ids=whole).logits
    assert torch.equal(by_place, by_mask) and not torch.equal(by_place, base)
    out = edited.generate(torch.tensor([word_tokenizer()(PROMPTS[0])["input_ids"]]), max_new_tokens=1, do_sample=False)
    assert word_tokenizer().decode(out[0, -1:]) == "w150"
    assert edited.config.hidden_size == 32


@pytest.mark.parametrize("feature", ["mean", "last"])
def test_other_features(feature):
    model = tiny_memoir(feature=feature)
    assert not model.memory.background.any()
    model.edit(*["w100 w101 w102", "w150"])
    assert model.route("w100 w101 w102")["score"] == 1.0
    seen = []
    model.model.get_submodule(model.target.path).register_forward_hook(lambda m, args, out: seen.append(args[0]))
    with model.disabled():
        logits(model, "w100 w101 w102")
    weights = {
        "mean": torch.ones(3),
        "last": torch.tensor([0.0, 0.0, 1.0]),
    }[feature]
    feature_of = (weights @ seen[0][0]) / weights.sum() - model.memory.background
    chosen = model.memory.permutation.long()[feature_of.abs().topk(24).indices].sort().values
    assert torch.equal(model.memory.indices_of(0).long(), chosen)


def test_yaml_is_read_and_refused(tmp_path):
    shipped = {entry.name.removesuffix(".yaml") for entry in SHIPPED.iterdir()}
    assert {"llama3-8b", "mistral-7b", "llama2-7b", "gpt-j-6b", "smollm2"} <= shipped
    for name in shipped:
        found = MEMOIRHyperParams.from_hparams(name)
        assert (
            found.config().write == "sgd"
            and settled(found.config()).weight_decay == 1e-5
            and found.config().threshold == found.irr_threshold
        )
    assert MEMOIRHyperParams.from_hparams("llama3-8b").config().layer == "model.layers[27].mlp.down_proj.weight"
    for text, says in (
        (YAML.replace("MEMOIR", "WISE"), "alg_name must be MEMOIR"),
        (YAML.replace("3e0", "fast"), "edit_lr must be a number"),
        (YAML.replace("24", "24.5"), "top_k must be an integer"),
        (YAML.replace("mean_decentered", "max"), "prompt_feature_agg must be one of"),
        (YAML.replace("model_name: none", ""), "model_name is missing"),
        ("- a\n- b\n", "expected a mapping"),
        ("a: [", "not YAML"),
        ("x: !!python/object/apply:os.system [ls]", "not YAML"),
    ):
        path = tmp_path / "bad.yaml"
        path.write_text(text)
        with pytest.raises(ValueError, match=says):
            MEMOIRHyperParams.from_hparams(str(path))
    with pytest.raises(ValueError, match=r"no file 'nowhere.yaml'; shipped ones are gpt-j-6b"):
        MEMOIRHyperParams.from_hparams("nowhere.yaml")
    path.write_text(YAML + "colour: red\nsize: 3\n")
    with pytest.warns(UserWarning, match="colour, size"):
        assert MEMOIRHyperParams.from_hparams(str(path)).edit_lr == 3.0


def test_published_tensors_go_in_and_out(tmp_path):
    model = tiny_memoir()
    for prompt, target in zip(PROMPTS, TARGETS, strict=True):
        model.edit(prompt, target)
    path = tmp_path / "memory.pt"
    export_memory(model, path)
    again = MemoirModel(
        tiny_model("llama"), word_tokenizer(), model.config, model.memory.background.clone(), permutation_of(path)
    )
    import_memory(again, path)
    assert torch.allclose(logits(again, PROMPTS[0]), logits(model, PROMPTS[0]), atol=1e-5)
    export_memory(again, tmp_path / "again.pt")
    first, second = (torch.load(p, weights_only=True) for p in (path, tmp_path / "again.pt"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(ValueError, match="holds 2 edits already"):
        import_memory(again, path)
    for change, says in (
        ({"new_weight": torch.zeros(3, 3)}, "new_weight must be"),
        ({"masks": first["masks"][:, :50]}, "masks must be bool"),
        ({"masks": ~first["masks"]}, "exactly 24 ones"),
        ({"permutation": torch.arange(96)}, "permutation is not the model's"),
    ):
        torch.save({**first, **change}, path)
        empty = MemoirModel(
            tiny_model("llama"), word_tokenizer(), model.config, model.memory.background, model.memory.permutation
        )
        with pytest.raises(ValueError, match=says):
            import_memory(empty, path)
        assert len(empty.memory) == 0 and not empty.memory.V.any()
    features = torch.randn(7, 96)
    torch.save(features, tmp_path / "features.pt")
    assert torch.equal(load_background(tmp_path / "features.pt"), features.mean(0))
    torch.save({"a": word_tokenizer}, tmp_path / "code.pt")
    with pytest.raises(ValueError, match="plain tensors"):
        load_background(tmp_path / "code.pt")


def test_data_files_are_read_and_refused(tmp_path):
    for name, kind in (
        ("zsre", "ZsRE"),
        ("hallucination", "hallucination"),
        ("temporal", "temporal"),
        ("counterfact", "counterfact"),
    ):
        records = load_records(facts_file(f"{name}.jsonl"), kind, 20)
        assert len(records) == 20 and all(r.prompt and r.target_new and r.locality_prompt for r in records)
        assert kind == "hallucination" or all(r.rephrase_prompt for r in records)
    published = [{"src": "p", "alt": "t", "rephrase": "r", "loc": "l", "loc_ans": "a", "subject": "s"}]
    (tmp_path / "zsre.json").write_text(json.dumps(published))
    assert load_records(tmp_path / "zsre.json", "ZsRE")[0].locality_ground_truth == "a"
    path = tmp_path / "bad.jsonl"
    for text, says in (
        ('{"src": "p", "alt": "t"}\n{"src": "p"}', r"line 2: field alt / target_new"),
        ('{"src": 3, "alt": "t"}', r"line 1: field src / prompt"),
        ('{"src": "p", "alt": "t"}\nnot json', "line 2: not JSON"),
        ("[1]", "record 1: expected an object"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=says):
            load_records(path, "ZsRE")


def test_the_script_writes_what_the_published_one_does(tmp_path, hparams, monkeypatch, capsys):
    base, tok = hparams.model_name
    monkeypatch.setattr("memoir_fast.compat.easyedit.load_model", lambda name: (base, tok))
    (tmp_path / "ZsRE").mkdir()
    rows = [
        {"src": p, "alt": t, "rephrase": r, "loc": "w30 w31", "loc_ans": "w32"}
        for p, t, r in zip(PROMPTS, TARGETS, REPHRASED, strict=True)
    ]
    (tmp_path / "ZsRE" / "edit.json").write_text(json.dumps(rows))
    common = [
        f"--hparams_dir={tmp_path / 'tiny.yaml'}",
        f"--data_dir={tmp_path}",
        "--data_type=ZsRE",
        f"--output_dir={tmp_path / 'out'}",
    ]
    assert (
        run_editing(
            [
                "--editing_method=MEMOIR",
                *common,
                "--ds_size=2",
                "--sequential_edit",
                "--n_iter=40",
                "--model_name=org/tiny",
            ]
        )
        == 0
    )
    found = json.loads((tmp_path / "out" / "tiny_MEMOIR_N=2_Sequential=True.json").read_text())
    assert [entry["post"]["rewrite_acc"] for entry in found] == [
        [1.0],
        [1.0],
    ] and "metrics summary" in capsys.readouterr().out
    assert run_editing([*common, "--ds_size=9"]) == 2 and "asked for 9" in capsys.readouterr().err


def _learns(base) -> bool:
    """Whether one edit of this base model is answered."""
    config = MemoirConfig(layer=1, top_k=24, threshold=0.7, chat_template=False, end="none")
    model = MemoirModel(base, word_tokenizer(), config, background_texts())
    model.edit(PROMPTS[0], TARGETS[0])
    return metrics.token_accuracy(model, [(PROMPTS[0], TARGETS[0])]) == [1.0]


def test_adapted_and_quantised_models_can_be_edited():
    peft = pytest.importorskip("peft")
    base = peft.get_peft_model(tiny_model("llama"), peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    assert _learns(base)


def test_an_int8_base_model_can_be_edited():
    torchao = pytest.importorskip("torchao.quantization")
    base = tiny_model("llama")
    torchao.quantize_(base, torchao.Int8WeightOnlyConfig())
    assert _learns(base)


def test_importing_the_front_does_nothing():
    code = (
        "import random, logging; a = random.getstate(); h = list(logging.root.handlers)\n"
        "import torch; b = torch.get_rng_state()\n"
        "import memoir_fast.compat.easyedit, memoir_fast.compat.run_editing, sys\n"
        "assert a == random.getstate() and h == logging.root.handlers and torch.equal(b, torch.get_rng_state())\n"
        "assert 'easyeditor' not in sys.modules and not torch.cuda.is_initialized()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "", done.stderr
