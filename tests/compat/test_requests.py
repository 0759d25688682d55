"""What enters the front: texts, alternatives, subjects, keywords; and what is refused by name before anything is edited."""

from __future__ import annotations

import pytest

from memoir_fast.compat.easyedit import ALG_DICT, BaseEditor, apply_memoir_to_model
from memoir_fast.compat.requests import checked, learned, pairs_of, requests_from
from tests.compat.support import PROMPTS, REPHRASED, TARGETS

BAD_TARGETS = {
    "a number": 5, "a fraction": 2.5, "missing": float("nan"), "none": None, "empty": " ", "an empty list": [],
    "a list of one": ["w150"], "a list in a list": [["w150"], ["w151"]], "a number in a list": ["w150", 3], "true": True, "a dictionary": {"str": "w150"},
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_TARGETS.values(), ids=BAD_TARGETS)
def test_targets_that_are_not_text_are_refused_by_name(bad, hparams):
    editor = BaseEditor(hparams)
    for verb in (editor.edit, editor.batch_edit, editor.generate_edit, editor.normal_edit):
        with pytest.raises(ValueError, match=r"target_new\[1\]"):
            verb(PROMPTS, [TARGETS[0], bad])
    requests = [{"prompt": PROMPTS[0], "target_new": TARGETS[0]}, {"prompt": PROMPTS[1], "target_new": bad}]
    with pytest.raises(ValueError, match=r"target_new\[1\]"):
        apply_memoir_to_model(*hparams.model_name, requests, hparams)
    with pytest.raises(ValueError, match=r"target_new\[1\]"):
        editor.edit(requests=requests)
    assert not hparams.model_name[0]._forward_hooks  # refused before a memory was made


@pytest.mark.parametrize("name", ["prompt", "rephrase_prompt", "subject", "loc_prompt"])
def test_other_texts_too(name):
    for bad in (5, float("nan"), ["w1"], " "):
        with pytest.raises(ValueError, match=rf"{name}\[0\]"):
            checked([{"prompt": "w100", "target_new": "w150", name: bad}])
    if name != "prompt":
        assert len(checked([{"prompt": "w100", "target_new": "w150", name: empty} for empty in (None, "")])) == 2
    for requests, says in (
        ([{"prompt": "w100"}], "target_new is missing"),
        ([{"target_new": "w100"}], "prompt is missing"),
        (["w100"], r"requests\[0\] must be a dictionary"),
        (
            [{"prompt": "a", "target_new": "b", "locality": {"near": {"prompt": "c"}}}],
            "must have prompt and ground_truth",
        ),
        (
            [{"prompt": "a", "target_new": "b", "locality": {"near": {"prompt": ["c", "d"], "ground_truth": ["e"]}}}],
            "2 entries",
        ),
        (
            [{"prompt": "a", "target_new": "b", "portability": {"hop": {"prompt": "c", "ground_truth": 5}}}],
            "ground_truth",
        ),
    ):
        with pytest.raises(ValueError, match=says):
            checked(requests)
    for arguments, says in (
        ({"prompts": 5, "target_new": "a"}, "prompts must be"),
        ({"prompts": ["a"], "target_new": 5}, "target_new must be"),
        (
            {"prompts": ["a"], "target_new": ["b"], "rephrase_prompts": {"near": {}}},
            "rephrase_prompts must be",
        ),  # one place off
        ({"prompts": ["a"]}, "prompts and target_new must be given"),
        ({"prompts": ["a"], "target_new": ["b"], "locality_inputs": {"near": ["c"]}}, "locality_inputs"),
        ({"prompts": ["a"], "target_new": ["b"], "loc_prompts": 4}, "loc_prompts"),
    ):
        with pytest.raises(ValueError, match=says):
            requests_from(**{"target_new": None, **arguments})


def test_aliases_are_alternatives(hparams):
    editor = BaseEditor(hparams)
    hop = {"hop": {"prompt": PROMPTS[:1], "ground_truth": [["w179 w178", "w150"]]}}
    found, edited, _ = editor.edit(
        PROMPTS[:1], [["w150", "w160"]], portability_inputs=hop, sequential_edit=True, verbose=False
    )
    assert edited.memoir.edits[0]["target"] == "w150" and found[0]["requested_rewrite"]["target_new"] == [
        "w150",
        "w160",
    ]
    assert found[0]["post"]["rewrite_acc"] == [1.0] and found[0]["post"]["portability"] == {"hop_acc": [1.0]}
    # Any of them counts: the answer learned is the second here.
    found, _, _ = editor.edit(PROMPTS[0], ["w160", "w150"], pre_edit=None, verbose=False)
    assert found[0]["pre"]["rewrite_acc"] == [1.0]
    assert pairs_of({"prompt": ["a", "b"], "ground_truth": [["x", "y"], "z"]}) == [("a", ["x", "y"]), ("b", ["z"])]
    assert pairs_of({"prompt": "a", "ground_truth": ["x", "", None]}) == [("a", ["x"])]


def test_a_subject_is_filled_in_once_and_for_the_scores_too(hparams):
    given = {
        "prompt": "w100 {} w102",
        "subject": "w101",
        "target_new": "w150",
        "rephrase_prompt": "{} w100",
        "my_key": 7,
    }
    found, edited, _ = BaseEditor(hparams).edit_requests([given], sequential_edit=True, verbose=False)
    assert edited.memoir.edits[0]["prompt"] == "w100 w101 w102"
    assert found[0]["post"]["rewrite_acc"] == [1.0]
    assert found[0]["requested_rewrite"] == {**given, "prompt": "w100 w101 w102", "rephrase_prompt": "w101 w100"}
    assert given["prompt"] == "w100 {} w102"  # the user's own is left alone
    (request,) = checked([{"prompt": "{} and {} in a {set}", "subject": "w1", "target_new": " w2 "}])
    assert request["prompt"] == "w1 and w1 in a {set}" and learned(request) == "w2"
    assert checked([{"prompt": "print({})", "target_new": "w2"}])[0]["prompt"] == "print({})"


def test_requests_have_easyedits_keys():
    (request,) = requests_from(
        "w100", "w150", target_neg=["w151"], rephrase_prompts="w101", subject="w100", loc_prompts=["w30 w31"],
        locality_inputs={"near": {"prompt": "w30", "ground_truth": "w31"}},
    )  # fmt: skip
    assert request == {
        "prompt": "w100", "target_new": "w150", "ground_truth": "<|endoftext|>", "target_neg": "w151", "rephrase_prompt": "w101",
        "subject": "w100", "loc_prompt": "w30 w31", "locality": {"near": {"prompt": "w30", "ground_truth": "w31"}}, "portability": {},
    }  # fmt: skip
    assert [r["loc_prompt"] for r in requests_from(["a", "b", "c"], ["d"] * 3, loc_prompts=["e", "f"])] == [
        "e",
        "f",
        "e",
    ]


def test_an_empty_locality_answer_does_not_stop_a_run(hparams):
    local = {"near": {"prompt": ["w30 w31", "w40 w41"], "ground_truth": ["", "w42"]}}
    with pytest.warns(UserWarning, match="1 locality or portability answers are empty"):
        found, _, _ = BaseEditor(hparams).edit(PROMPTS, TARGETS, locality_inputs=local, verbose=False)
    assert found[0]["post"]["locality"] == {} and found[1]["post"]["locality"] == {"near_acc": [1.0]}


def test_unknown_keywords_are_refused_and_known_ones_taken(hparams):
    editor = BaseEditor(hparams)
    for verb in (editor.edit, editor.batch_edit, editor.generate_edit):
        with pytest.raises(TypeError, match="unknown keyword 'rephrase_prompt': did you mean 'rephrase_prompts'"):
            verb(PROMPTS, TARGETS, rephrase_prompt=REPHRASED)
    with pytest.raises(TypeError, match="unknown keyword 'metric_kwargs'"):
        editor.edit_requests([], metric_kwargs=[{}])
    found, _, _ = editor.edit(
        PROMPTS[:1], TARGETS[:1], verbose=False, keep_original_weight=True, train_ds=None, loc_prompts=["w30"]
    )
    assert found[0]["case_id"] == 0
    assert ALG_DICT["MEMOIR"] is apply_memoir_to_model is editor.apply_algo
