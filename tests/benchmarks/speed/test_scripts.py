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
from benchmarks.speed import factorise, long_edits, lookup
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


@pytest.mark.parametrize("kind", ["forward", "published", "exact", "fast"])
def test_long_edits_are_measured_alone(kind, tmp_path):
    model, edits, background = tiny_files(tmp_path)[1::2]
    args = argparse.Namespace(model=model, edits=edits, background=background, count=1, steps=2)
    found = long_edits.alone(kind, args)
    assert found["seconds"] > 0 and len(found["losses"]) == (kind != "forward")


def test_the_factorisations_solve_one_system():
    calls = factorise.systems(64)  # checked against each other when they are made
    assert set(calls) == {"cholesky", "general", "woodbury"}
    assert torch.allclose(calls["cholesky"](), calls["general"](), rtol=1e-3, atol=1e-3)


def test_drawn_masks_have_k_ones_and_queries_their_overlap():
    import numpy as np

    rng = np.random.default_rng(0)
    chances = lookup.popularity(rng)
    codes = lookup.million(rng, chances, 5, seeds=8)
    ones = np.unpackbits(codes, axis=1, bitorder="little")
    assert (ones.sum(1, dtype=int) == lookup.K).all() and len(np.unique(codes, axis=0)) == 5
    query = np.unpackbits(lookup.near(rng, codes[0], 0.6, chances), bitorder="little")
    assert query.sum(dtype=int) == lookup.K and (query & ones[0]).sum(dtype=int) == round(0.6 * lookup.K)
