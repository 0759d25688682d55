"""The scripts run from end to end on a tiny model, and end in a row with their settings and results apart."""

from __future__ import annotations

import argparse
import importlib
import json
import sys

import pytest
import torch

from benchmarks import rows
from benchmarks.quality import measures
from benchmarks.speed import factorise, long_edits, lookup_masks, lookup_words, many_wordings
from tests.benchmarks.support import tiny_files

SCRIPTS = {
    "speed.edit_speed": {"exact_ratio", "published_s", "floor_fraction"},
    "speed.batched": {"rows"},
    "speed.kernels": {"auto", "reference", "equal_answers"},
    "quality.newer": {"rows"},
    "quality.peers": {"peers", "seconds"},
    "experiments.features": {"poolings"},
}


@pytest.mark.parametrize("module", SCRIPTS)
def test_a_script_writes_its_row(module, tmp_path, monkeypatch):
    # Of shipped questions: real words.
    monkeypatch.setattr(measures, "background_perplexity", lambda model: 1.0)
    monkeypatch.setattr(
        sys, "argv", [module, *tiny_files(tmp_path), "--count", "3", "--json", str(tmp_path / "row.json")]
    )
    importlib.import_module(f"benchmarks.{module}").main()
    row = rows.Row(**json.loads((tmp_path / "row.json").read_text()))
    assert row.benchmark == module.split(".")[1] and SCRIPTS[module] <= row.result.keys()
    assert row.settings["edits"] == "rows.jsonl, rows 0-2" and "edits" not in row.result
    assert row.traced == rows.is_clean(row.commit)


@pytest.mark.parametrize("kind", ["forward", "published", "exact", "fast", "chat", "chat_fast"])
def test_long_edits_are_measured_alone(kind, tmp_path):
    model, edits, background = tiny_files(tmp_path)[1::2]
    args = argparse.Namespace(model=model, edits=edits, background=background, count=1, steps=2)
    found = long_edits.alone(kind, args)
    assert (
        found["seconds"] > 0
        and len(found["losses"]) == (kind != "forward")
        and ("accuracy" in found) == (kind != "forward")
    )


def test_the_factorisations_solve_one_system():
    calls = factorise.systems(64)  # checked against each other when they are made
    assert set(calls) == {"cholesky", "general", "woodbury"}
    assert torch.allclose(calls["cholesky"](), calls["general"](), rtol=1e-3, atol=1e-3)


def test_drawn_masks_have_k_ones_and_queries_their_overlap():
    import numpy as np

    rng = np.random.default_rng(0)
    chances = lookup_masks.popularity(rng)
    codes = lookup_masks.mixed(rng, chances, 5, seeds=8)
    ones = np.unpackbits(codes, axis=1, bitorder="little")
    assert (ones.sum(1, dtype=int) == lookup_masks.K).all() and len(np.unique(codes, axis=0)) == 5
    query = np.unpackbits(lookup_masks.near(rng, codes[0], 0.6, chances), bitorder="little")
    assert query.sum(dtype=int) == lookup_masks.K and (query & ones[0]).sum(dtype=int) == round(0.6 * lookup_masks.K)


def test_masks_are_looked_up_side_by_side(monkeypatch):
    """On small masks, with slices from 64 edits on: the values are checked inside against a direct comparison."""
    pytest.importorskip("faiss")
    import numpy as np

    monkeypatch.setattr(lookup_masks, "D", 1024), monkeypatch.setattr(lookup_masks, "K", 256)
    monkeypatch.setattr(lookup_masks.SignatureIndex, "exhaustive", 64)
    rng = np.random.default_rng(0)
    chances = lookup_masks.popularity(rng)
    for count, queries in ((50, 6), (5200, 6)):
        found = lookup_masks.side_by_side(rng, chances, count, queries)
        assert found["edits"] == count and found["recall"] == 1 and found["found_wanted"] > 0.5
        assert min(found[f"{name}_ms"] for name in ("ours", "faiss", "faiss_threads")) > 0


def test_many_wordings_are_those_of_the_generator_and_are_found(smollm2):
    """A wording that is put together is that of its own text: the same words, weights and kinds; and rewordings are found among them."""
    pytest.importorskip("faiss")
    import numpy as np

    from memoir_fast import MemoirConfig, MemoirModel

    with MemoirModel(*smollm2, MemoirConfig(chat_template=False)) as model:
        many = many_wordings.ManyWordings(model, most=2, read=2)
        facts = many.facts(400)
        assert len(set(facts)) == 400 and len({subject for _, subject in facts}) > 100
        for wording, subject in facts[:12]:
            code = many.code(wording, subject)
            tokens = model.tokenizer(many.wordings[wording][2].replace("{s}", subject), add_special_tokens=False)[
                "input_ids"
            ]
            words = many.matcher.reader.words(tokens)
            true = many.matcher.prompts.code(words, np.zeros((len(words), many.matcher.bits // 8), np.uint8))
            assert code.word.tolist() == true.word.tolist() and code.sentence.tolist() == true.sentence.tolist()
            assert np.allclose(code.weight[1:], true.weight[1:]) and code.answer.tolist() == true.answer.tolist()
        (found,) = lookup_words.measured(many, [300], 10)
    assert found["recall_both"] >= 0.8 and found["recall_both"] >= found["recall_first"] > 0.5
    assert found["lookup_cpu_ms"] > 0 and [one["postings"] for one in found["budgets"]] == list(lookup_words.BUDGETS)
