"""EasyEdit's verbs and metrics: batch_edit, edit_requests, edit_dataset, normal_edit, generate_edit, pre_file, the names of scores."""

from __future__ import annotations

import json
import math

import pytest
import torch

from memoir_fast.compat.easyedit import BaseEditor, MEMOIRHyperParams, summary_metrics
from memoir_fast.evaluation import metrics
from tests.compat.support import LOCAL, PROMPTS, REPHRASED, TARGETS
from tests.support.models import tiny_memoir

HOP = {"one_hop": {"prompt": PROMPTS, "ground_truth": TARGETS}}


@pytest.mark.parametrize("name", ["token em", "token_em", "exact match", "acc"])
def test_every_name_of_the_token_score(name, hparams):
    found, _, _ = BaseEditor(hparams).edit(PROMPTS[:1], TARGETS[:1], REPHRASED[:1], eval_metric=name, verbose=False)
    assert found[0]["post"]["rewrite_acc"] == [1.0]


def test_perplexities_are_floats_and_are_summed_up(hparams):
    found, _, _ = BaseEditor(hparams).edit(
        PROMPTS, TARGETS, rephrase_prompts=REPHRASED, eval_metric="ppl", verbose=False
    )
    for stage in ("pre", "post"):
        assert all(isinstance(entry[stage][name], float) for entry in found for name in ("rewrite_ppl", "rephrase_ppl"))
    summary = summary_metrics(found)
    assert summary["post"]["rewrite_ppl"] == pytest.approx(sum(e["post"]["rewrite_ppl"] for e in found) / 2)
    assert summary["post"]["rewrite_ppl"] < summary["pre"]["rewrite_ppl"]
    assert summary_metrics(found[0])["post"]["rewrite_ppl"] == found[0]["post"]["rewrite_ppl"]


def test_ood_acc_is_the_share_of_the_passages_tokens_above_point_eight(hparams):
    passage = "w100 w101 w102 w150 w100 w101"
    found, edited, _ = BaseEditor(hparams).edit(
        PROMPTS[:1], TARGETS[:1], rephrase_prompts=[passage], eval_metric="ood_ppl", sequential_edit=True, verbose=False
    )
    memoir = edited.memoir
    tokens = torch.tensor([memoir.tokenizer(passage)["input_ids"]])
    with torch.no_grad():
        chances = memoir(input_ids=tokens).logits[0, :-1].float().softmax(-1)
    wanted = sum(float(chances[place, token]) > 0.8 for place, token in enumerate(tokens[0, 1:])) / 5
    assert found[0]["post"]["ood_acc"] == wanted and "rephrase_acc" not in found[0]["post"]
    alone, _, _ = BaseEditor(hparams).edit(PROMPTS[:1], TARGETS[:1], eval_metric="ood_ppl", verbose=False)
    assert alone[0]["post"]["ood_acc"] == metrics.likely_share(memoir, PROMPTS[:1], 0.8)[0]


def test_the_likely_share_counts_what_it_says():
    model = tiny_memoir()
    shares = [metrics.likely_share(model, ["w100 w101 w102 w103"], least)[0] for least in (1e-9, 1e-3, 0.999)]
    assert shares[0] == 1.0 > shares[2] == 0.0 and 0 <= shares[1] <= 1
    assert math.isnan(metrics.likely_share(model, ["w100"], 0.8)[0])
    chat = tiny_memoir(chat_template=True)  # the template's own tokens are not the passage's
    assert metrics.likely_share(chat, ["w100"], 0.0001)[0] in (0.0, 1.0)


def test_pre_file_is_written_where_there_is_no_pre_edit(hparams, tmp_path):
    editor, path = BaseEditor(hparams), tmp_path / "pre.json"
    arguments = {"locality_inputs": LOCAL, "verbose": False}
    found, _, _ = editor.edit(PROMPTS, TARGETS, pre_file=str(path), **arguments)
    written = json.loads(path.read_text())
    assert [entry["pre"]["rewrite_acc"] for entry in written] == [entry["pre"]["rewrite_acc"] for entry in found]
    path.write_text("the user's own")
    again, _, _ = editor.edit(PROMPTS, TARGETS, pre_edit=written, pre_file=str(path), **arguments)
    assert path.read_text() == "the user's own" and again[0]["pre"] == written[0]["pre"]
    assert again[0]["post"]["locality"] == {"neighborhood_acc": [1.0]}
    with pytest.raises(ValueError, match="pre_file: there is no folder"):
        editor.edit(PROMPTS, TARGETS, pre_file=str(tmp_path / "nowhere" / "pre.json"))
    for bad, says in (([written[0]], "2 entries"), ("pre.json", "must be a list"), ([{"pre": {}}] * 2, "no locality")):
        with pytest.raises(ValueError, match=f"pre_edit.*{says}"):
            editor.edit(PROMPTS, TARGETS, pre_edit=bad, **arguments)


def test_batch_edit_takes_what_edit_takes(hparams):
    editor = BaseEditor(hparams)
    found, edited, restore = editor.batch_edit(
        PROMPTS, TARGETS, None, None, REPHRASED, LOCAL, HOP, False, False, test_generation=True
    )
    assert len(edited.memoir.memory) == 0  # sequential_edit=False: taken back after they were measured
    for entry, target in zip(found, TARGETS, strict=True):
        assert entry["post"]["rewrite_acc"] == [1.0] and entry["post"]["portability"] == {"one_hop_acc": [1.0]}
        assert entry["post"]["locality"] == {"neighborhood_acc": [1.0]} and entry["post"]["fluency_text"].startswith(
            target
        )
        assert entry["requested_rewrite"]["portability"] and "rephrase_acc" in entry["post"]
    found, edited, restore = editor.batch_edit(PROMPTS, TARGETS, eval_metric="ppl", verbose=False)
    assert len(edited.memoir.memory) == 2 and isinstance(found[0]["post"]["rewrite_ppl"], float)
    restore()
    assert len(edited.memoir.memory) == 0


def test_the_other_verbs(hparams):
    editor = BaseEditor(hparams)
    none, edited, restore = editor.normal_edit(PROMPTS, TARGETS)
    assert none is None and [row["target"] for row in edited.memoir.edits.values()] == TARGETS
    restore()
    requests = [{"prompt": p, "target_new": t} for p, t in zip(PROMPTS, TARGETS, strict=True)]
    found, edited, _ = editor.edit_dataset(requests, verbose=False)
    assert [entry["post"]["rewrite_acc"] for entry in found] == [[1.0], [1.0]] and len(edited.memoir.memory) == 0
    found, edited, _ = editor.generate_edit(
        PROMPTS, TARGETS, rephrase_prompts=REPHRASED, locality_inputs=LOCAL, portability_inputs=HOP, sequential_edit=True,
        max_new_tokens=3, verbose=False,
    )  # fmt: skip
    for entry, target in zip(found, TARGETS, strict=True):
        assert entry["post"]["rewrite_ans"].startswith(target) and not entry["pre"]["rewrite_ans"].startswith(target)
        assert entry["post"]["locality_ans"] == entry["pre"]["locality_ans"]
        assert entry["post"]["portability_ans"][0].startswith(target) and isinstance(entry["post"]["rephrase_ans"], str)
    assert len(edited.memoir.memory) == 2


def test_a_device_that_is_not_there_is_named(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ValueError, match="device: 0 means cuda:0"):
        BaseEditor(MEMOIRHyperParams(model_name=str(tmp_path)))
