"""Settings found for a model on a few facts, kept by its fingerprint, and taken only where the user left them open."""

from __future__ import annotations

import os

import pytest

import memoir_fast
from memoir_fast import EditError, MemoirConfig, MemoirModel
from memoir_fast.base import tuned
from memoir_fast.base.loading import cache_folder
from memoir_fast.evaluation import tuning
from memoir_fast.evaluation.facts import Fact
from tests.support.models import background_texts, tiny_model, word_tokenizer
from tests.support.patience import within

FACTS = [
    Fact(f"w1{i}0 w1{i}1 w1{i}2", f"w16{i}", rephrase=f"w1{i}1 w1{i}0 w1{i}2", unrelated=f"w2{i} w3{i} w4{i}")
    for i in range(3)
]
PLAIN = {"top_k": 24, "chat_template": False, "router": "mask", "threshold": 0.7}


@pytest.fixture(scope="module")
def parts():
    return tiny_model("llama"), word_tokenizer()


def _tuned(parts, told=lambda row: None, **settings):
    given = {name: settings.pop(name) for name in ("layers", "context_counts", "facts") if name in settings}
    config = MemoirConfig(**{**PLAIN, **settings})
    return memoir_fast.tune(*parts, config, **{"facts": FACTS, **given}, background=background_texts(), told=told)


def test_every_candidate_is_measured_and_told_once(parts):
    told = []
    found = _tuned(parts, told.append, layers=[1, 2], context_counts=[0, 2, 10])
    assert (
        found.rows == told and len(told) == 4
    )  # two layers; then two counts, as the default's was measured with the layers
    assert [row.settings["layer"] for row in told[:2]] == [1, 2] and {row.settings["contexts"] for row in told[:2]} == {
        2
    }
    assert {row.settings["layer"] for row in told[2:]} == {found.settings["layer"]}
    assert [row.settings["contexts"] for row in told[2:]] == [0, 10]
    for row in told:
        assert row.asked == 9 and row.right == round(3 * (row.reliability + row.generalization + row.locality))
        assert row.seconds > 0 and row.steps > 0 and row.reliability > 0 and not row.failed


@pytest.mark.parametrize(
    ("right", "layer", "contexts"),
    [
        ({}, 3, 0),  # all alike: the default layer of four, the fewest contexts
        ({(1, 3): 9, (1, 0): 9}, 1, 0),
        ({(2, 3): 6}, 3, 0),  # one answer more is no reason
        ({(2, 3): 7}, 2, 3),
        ({(0, 3): 8, (2, 3): 8, (2, 0): 8}, 2, 0),  # of two that are better the one nearer to the default
    ],
)
def test_the_choice(parts, monkeypatch, right, layer, contexts):
    """The rule itself, with results put in: nearest to the default among those at most one answer worse than the best."""

    def measured(self, settings):
        number = right.get((settings["layer"], settings["contexts"]), 5)
        return tuning.Candidate(settings, 0.0, 0.0, 0.0, 1.0, 1.0, number, 9)

    monkeypatch.setattr(tuning._Trial, "_measured", measured)
    assert _tuned(parts, layers=[0, 1, 2, 3]).settings == {"layer": layer, "contexts": contexts}


def test_only_what_is_open_is_tried(parts):
    with pytest.raises(ValueError, match="nothing to find"):
        _tuned(parts, layer=1, contexts=0)
    fixed = _tuned(parts, layer="model.layers.1.mlp.down_proj", contexts=0, write="sgd", steps=3)
    assert [row.settings["edit_lr"] for row in fixed.rows] == pytest.approx([0.3, 0.9, 3.0])
    assert fixed.settings.keys() == {"edit_lr"} and {row.settings["layer"] for row in fixed.rows} == {1}


def test_a_candidate_that_cannot_be_edited_is_told_and_not_taken(parts, monkeypatch):
    edit_all = tuning.edit_all

    def diverging(memoir, facts, quiet):
        if memoir.target.layer == 3:
            raise EditError("the edit's loss is [nan]")
        return edit_all(memoir, facts, quiet)

    monkeypatch.setattr(tuning, "edit_all", diverging)
    found = _tuned(parts, layers=[1, 3], context_counts=[0], steps=2)
    assert found.settings["layer"] == 1 and [bool(row.failed) for row in found.rows] == [False, True]
    with pytest.raises(ValueError, match=r"layer: no candidate could be edited: .*nan"):
        _tuned(parts, layers=[3], steps=2)


def test_a_choice_is_taken_by_name_and_never_silently(parts, tmp_path, monkeypatch):
    monkeypatch.setattr("memoir_fast.store.opening.load_model", lambda name, **options: parts)

    def made(**settings):
        return MemoirModel.from_pretrained("tiny", background=background_texts(), **{**PLAIN, **settings})

    with made() as model:
        assert model.target.layer == 3 and model.config.contexts is None and "tuned" not in repr(model)
    place = tuning.Tuning([], {"layer": 1, "contexts": 2}, *_key(parts)).save()
    assert place.is_relative_to(cache_folder())
    with made() as model:
        assert model.target.layer == 1 and model.config.contexts == 2
        assert model.config.tuned == place.name and place.name in repr(model)
        model.edit("w100 w101", "w150")
        model.save_pretrained(tmp_path / "memory")
    with made(contexts=0) as model:
        assert model.target.layer == 1 and model.config.contexts == 0  # what the user says goes first
    with made(tuned="off") as model:
        assert model.target.layer == 3 and "tuned" not in repr(model)
    with made(write="sgd") as model:
        assert model.target.layer == 3  # measured with another rule
    with MemoirModel(*parts, MemoirConfig(**PLAIN), background_texts()) as model:
        assert model.target.layer == 3  # settings given as an object are what they say
    place.unlink()
    with MemoirModel.load(tmp_path / "memory", *parts) as model:  # a memory keeps what it was made with
        assert model.target.layer == 1 and model.config.tuned == place.name and place.name in repr(model)


def _key(parts, **settings):
    config = MemoirConfig(**{**PLAIN, **settings})
    return tuned.identity(*parts, config.layer), tuned.measured_by(parts[1], config)


def test_a_file_of_the_user_s(parts, tmp_path):
    path = tuning.Tuning([], {"layer": 2}, *_key(parts)).save(tmp_path / "deep" / "mine.json")
    assert not (cache_folder() / "tuned").exists()
    with MemoirModel(*parts, MemoirConfig(**PLAIN, tuned=str(path)), background_texts()) as model:
        assert model.target.layer == 2 and "mine.json" in repr(model)
    other = tiny_model("llama", seed=1), parts[1]
    for given, settings, says in (
        (other, {}, "made for another model .*weight"),
        (parts, {"chat_template": True}, "measured with .*'chat_template': False"),
        (parts, {"write": "sgd"}, "measured with .*preconditioned"),
        (parts, {"tuned": str(tmp_path / "absent.json")}, "there is no file"),
    ):
        with pytest.raises(ValueError, match=f"tuned: .*{says}"):
            MemoirModel(*given, MemoirConfig(**{**PLAIN, "tuned": str(path), **settings}), background_texts())
    for text, says in (("{", "not JSON"), ("[]", "in format 1"), ('{"format": 2}', "in format 1"), ('{"format": 1}', "damaged"),
                       (path.read_text().replace('"layer"', '"steps"'), "damaged")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(ValueError, match=says):
            MemoirModel(*parts, MemoirConfig(**PLAIN, tuned=str(path)), background_texts())


@pytest.mark.parametrize("kind", ["pipe", "device", "deep", "long", "latin-1"])
def test_a_file_that_is_made_to_hurt_is_refused(parts, tmp_path, kind):
    path = tuning.Tuning([], {"layer": 2}, *_key(parts)).save(tmp_path / "mine.json")
    text = path.read_text()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes({"deep": b"[" * 20_000, "long": text.replace('"measured": {', '"measured": {"x": "' + "x" * 10**6 + '", ').encode(),
                          "latin-1": b"\xe9" + text.encode()}[kind])  # fmt: skip
    with within(), pytest.raises(ValueError, match="tuned: ") as caught:
        MemoirModel(*parts, MemoirConfig(**PLAIN, tuned=str(path)), background_texts())
    assert len(str(caught.value)) < 600


def test_what_cannot_be_tuned_is_refused(parts):
    for facts, layers, says in (([], None, "facts: give"), ([Fact("w100", "w150")], None, "each with a rephrasing"),
                                (FACTS, [], "none to try"), (FACTS, [9], "layer must be in")):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            _tuned(parts, facts=facts, layers=layers, steps=1)
    with pytest.raises(ValueError, match="cannot change for a single edit"):
        MemoirConfig().for_edit({"tuned": "off"})
    with pytest.raises(TypeError, match="tuned must be"):
        MemoirConfig(tuned=3)


def test_the_shipped_facts_can_be_measured():
    facts = tuning.shipped_facts()
    assert len(facts) == 8 and all(fact.rephrase and fact.unrelated for fact in facts)
    assert {fact.target for fact in facts if fact.target.isdigit()}  # a year and a number are hardest to converge


def test_layers_tried_lie_around_the_default():
    assert tuning._layers(18) == [11, 13, 14, 15, 16] and tuning._layers(32) == [19, 23, 25, 27, 29]
    assert tuning._layers(2) == [1] or 1 in tuning._layers(2)
