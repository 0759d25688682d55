"""The yardstick of the speed benchmarks agrees with the library: same losses, same matches, same answers."""

from __future__ import annotations

import pytest

from benchmarks.library import PLAIN, PUBLISHED
from benchmarks.rivals.published import PublishedEditor
from memoir_fast import MemoirConfig, MemoirModel, load_model, load_texts
from memoir_fast.evaluation import metrics
from tests.support.models import tiny_memoir, tiny_model

EDITS = [("w100 w101 w102", "w150"), ("w110 w111 w112 w113", "w151 w152"), ("w100 w101 w120", "w153")]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_same_losses_steps_and_scores(family):
    ours = tiny_memoir(family, recipe="published", edit_lr=0.5, stop_loss=4.0, stop_delta=0.2)
    theirs = PublishedEditor(tiny_model(family), ours)
    made = set()
    for prompt, target in EDITS:
        mine, plain = ours.edit(prompt, target), theirs.edit(prompt, target)
        assert mine.steps == plain.steps and mine.loss == pytest.approx(plain.final, abs=1e-4)
        made.add(plain.steps)
    assert min(made) < ours.config.steps  # their stop came into it
    apart = ours.memory.scale * ours.memory.V.T - theirs.layer.new_weight.detach()
    assert float(apart.norm() / theirs.layer.new_weight.detach().norm()) < 1e-4
    with pytest.raises(ValueError, match="recipe='published'"):
        PublishedEditor(tiny_model(family), tiny_memoir(family))
    for prompt, _ in EDITS:
        mask = theirs.mask_of(ours.encoder.prompt(prompt).tokens)
        assert theirs.match(mask) == (ours.route(prompt)["edit"], pytest.approx(ours.route(prompt)["score"]))
    assert theirs.accuracy(EDITS) == pytest.approx(metrics.mean(metrics.token_accuracy(ours, EDITS)))
    local = [("w30 w31 w32", "w33"), ("w40 w41 w42 w43", "w44 w45")]
    with ours.disabled():
        base = metrics.predictions(ours, local)
    assert theirs.locality(local) == pytest.approx(
        metrics.mean(metrics.agreement(metrics.predictions(ours, local), base))
    )
    base = tiny_model(family)
    assert [type(m) for m in theirs.detach().modules()] == [type(m) for m in base.modules()]


def test_same_losses_on_the_real_model(smollm2):
    ours = MemoirModel(*smollm2, MemoirConfig(**PUBLISHED, steps=4, **PLAIN), load_texts())
    del ours.contexts[3:]
    theirs = PublishedEditor(load_model("smollm2")[0], ours)
    try:
        prompt, target = "Who is the mayor of Paris?", "Anne Dupont"
        mine, plain = ours.edit(prompt, target), theirs.edit(prompt, target)
        assert mine.loss == pytest.approx(plain.final, abs=1e-3) and mine.steps == plain.steps == 4
    finally:
        ours.detach()
