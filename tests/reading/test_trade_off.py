"""The trade-off is that of generated facts and of the memory's own unrelated prompts, and is drawn where matplotlib is."""

from __future__ import annotations

import sys

import pytest

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.reading import trade_off
from memoir_fast.reading.trade_off import THRESHOLDS, Generated
from tests.support.models import tiny_memoir

KINDS = ("unrelated", "other_subject", "same_subject", "rewordings")


def test_generated_questions_are_of_their_kind():
    made = Generated.draw(30)
    stored = {text for some in made.stored for text in some}
    facts = set(made.facts)
    assert len(facts) == 30 and len({relation for relation, _ in facts}) == 30
    for one in made.asked:
        assert one.text not in stored
        if one.kind.startswith("rewording"):
            assert one.fact in facts
        else:
            relations, subjects = {r for r, _ in facts}, {s for _, s in facts}
            assert one.fact not in facts and (one.relation in relations or one.subject in subjects)
    assert {one.kind.split("/")[0] for one in made.asked} == {"rewording", "subject", "relation"}
    assert Generated.draw(30) == made


def checked(model, facts: int) -> dict:
    """The trade-off of a model with an edit, after what holds for any rule."""
    found, at = model.trade_off(facts=facts), model.threshold.median
    assert found["thresholds"] == THRESHOLDS and found["router"] == model.config.router
    assert (found["threshold"], found["generated_facts"]) == (at, facts)
    assert found["prompts"]["unrelated"] == len(model.threshold.largest) and min(found["prompts"].values()) > 5
    for name in KINDS:
        assert found[name] == sorted(found[name], reverse=True) and 0 <= found[name][-1] <= found[name][0] <= 1
    assert found["at_threshold"]["unrelated"] == (model.threshold.largest >= at).mean()
    assert found["other_subject"][0] == found["same_subject"][0] == 1  # at threshold 0 everything is read
    return found["at_threshold"]


def test_the_figures_are_those_of_the_rule(smollm2):
    with MemoirModel(*smollm2, MemoirConfig(precision="fast", steps=1)) as model:
        model.edit("Who wrote the novel Emma?", "Ada Lind")
        shares = checked(model, 20)  # of fewer facts, hardly any two share a class
    assert shares["rewordings"] >= 0.5 > shares["other_subject"]


def test_masks_have_one_too():
    with tiny_memoir(threshold=None, steps=1) as model:
        model.edit("w100 w101 w102", "w150")
        shares = checked(model, 20)  # of fewer facts, hardly any two share a class
    assert (
        shares["other_subject"] > 0.9
    )  # the tiny tokenizer knows no word of the questions: to its masks all are alike


def test_it_is_drawn_or_says_what_is_missing(tmp_path, monkeypatch):
    model, measured = tiny_memoir(), []
    monkeypatch.setattr("memoir_fast.journal.calibrated.trade_off", lambda *_: measured.append(1))
    with pytest.raises(ValueError, match=r"plot: 'curve.docx' must end in one of \."):
        model.trade_off(plot="curve.docx")
    (
        monkeypatch.setitem(sys.modules, "matplotlib", None),
        monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None),
    )
    with pytest.raises(ImportError, match=r"needs matplotlib: pip install memoir-fast\[plot\]"):
        model.trade_off(plot=str(tmp_path / "curve.svg"))
    assert not measured  # refused before anything is measured


def test_every_curve_is_in_the_picture(tmp_path):
    pytest.importorskip("matplotlib")
    curves = {name: [1 - at * (1 + number) / 4 for at in THRESHOLDS] for number, name in enumerate(KINDS)}
    found = {
        "thresholds": THRESHOLDS,
        "threshold": 0.5,
        "prompts": dict(zip(KINDS, (401, 32, 33, 34), strict=True)),
        **curves,
    }
    for name in ("curve.svg", "curve.png"):
        trade_off.draw(found, str(tmp_path / name))
        assert (tmp_path / name).stat().st_size > 5000
    text = (tmp_path / "curve.svg").read_text()
    assert all(f"({number})" in text for number in (401, 32, 33, 34)) and "threshold 0.500" in text
