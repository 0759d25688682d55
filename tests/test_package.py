"""The package as a whole: imports that do nothing, metrics, background and calibration, the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import background_texts, data_file, tiny_memoir, tiny_model, word_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from memoir_fast import load_texts
from memoir_fast.evaluation import metrics
from memoir_fast.evaluation.facts import load_facts
from memoir_fast.memory.index import SignatureIndex
from memoir_fast.reading.background import measure_background
from memoir_fast.reading.threshold import Threshold, overlaps


def test_importing_does_nothing():
    code = (
        "import random, logging, sys; a = random.getstate(); h = list(logging.root.handlers)\n"
        "import memoir_fast; assert 'torch' not in sys.modules\n"
        "import torch; b = torch.get_rng_state()\n"
        "import memoir_fast.model, memoir_fast.cli, memoir_fast.evaluation.protocol\n"
        "assert random.getstate() == a and torch.equal(torch.get_rng_state(), b) and logging.root.handlers == h\n"
        "assert not torch.cuda.is_initialized()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def _signatures(count, dimension=40, k=9, seed=0):
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, dimension), np.uint8)
    for row in masks:
        row[rng.choice(dimension, k, replace=False)] = 1
    return np.packbits(masks, axis=1, bitorder="little")


def test_index_against_brute_force_with_ties_and_removals():
    stored, queries = _signatures(60), _signatures(40, seed=1)
    stored[30:] = stored[:30]  # every signature twice: the earlier edit must win
    index = SignatureIndex(40, 9)
    assert index.nearest(queries)[0].tolist() == [-1] * 40
    index.add(range(0, 120, 2), stored)
    alive = list(range(60))
    for gone in ([0], [5, 40, 59], list(range(10, 30))):
        index.remove([2 * i for i in gone])
        alive = [i for i in alive if i not in gone]
        ids, overlap = index.nearest(queries)
        for q, query in enumerate(queries):
            shared = overlaps(stored[alive], query, 9)
            assert ids[q] == 2 * alive[int(shared.argmax())] and overlap[q] == pytest.approx(shared.max())
    assert index.ids == [2 * i for i in alive] and len(index) == len(alive)
    assert (index.signature(2 * alive[3]) == stored[alive[3]]).all()
    for ids, signatures, says in (
        ([500], stored[:2], "differ in number"),
        ([2 * alive[0]], stored[:1], "must ascend"),
        ([901, 900], stored[:2], "must ascend"),
        ([500], stored[:1] * 0, "exactly 9 ones"),
        ([500], stored[:1, :4], "must be uint8 of shape"),
    ):
        with pytest.raises(ValueError, match=says):
            index.add(ids, signatures)
    with pytest.raises(ValueError, match="not stored"):
        index.remove([501])
    index.add([0, 41], stored[[0, 20]])  # they come back, in their places
    assert index.ids == sorted([0, 41] + [2 * i for i in alive]) and index.nearest(stored[:1])[0] == [0]
    assert index.within(stored[3], 1.0) == [6, 66] and index.subset([66, 41, 7]).ids == [41, 66]


def test_threshold_follows_edits_and_keeps_the_rate():
    unrelated, edits = _signatures(200, seed=2), _signatures(300, seed=3)
    threshold = Threshold(None, unrelated, 9, 0.05)
    assert threshold.median == Threshold.FLOOR and threshold.of([-1])[0] > 1 and threshold.of([5]).tolist() == [1.0]
    for number, signature in enumerate(edits):
        threshold.follow(2 * number, signature)
    table = np.array([overlaps(edits, row, 9) for row in unrelated])
    assert np.array_equal(threshold.largest, table.max(1))
    ids = [0, 2, 10, 598]
    slow = [max(0.4, min(1, table[:, i // 2].max() + threshold.margin + 1 / 9)) for i in ids]
    assert np.allclose(threshold.of(ids), slow) and threshold.of([-1, 0])[0] > 1
    assert threshold.false_activation_rate() <= 0.05
    again = Threshold(None, unrelated, 9, 0.3)
    again.recount(range(0, 600, 2), edits)
    assert again.margin <= threshold.margin and np.array_equal(again.largest, threshold.largest)
    again.calibrate(0.05)
    assert again.margin == threshold.margin and np.array_equal(again.of(ids), threshold.of(ids))
    assert Threshold(0.6, unrelated, 9, 0.05).of([3, 4]).tolist() == [0.6, 0.6]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), prompts=st.integers(5, 40), edits=st.integers(1, 30), rate=st.floats(0.0, 0.5))
def test_a_further_prompt_reads_no_oftener_than_the_rate(seed, prompts, edits, rate):
    """Each prompt in turn is the further one: over all of them, the promise is exact."""
    numbers = np.random.default_rng(seed)
    unrelated = _signatures(prompts, seed=seed + 1)
    # Some edits share a wording with some prompts, so that the edits' own thresholds differ.
    stored = np.where(numbers.random(edits)[:, None] < 0.5, unrelated[numbers.integers(prompts, size=edits)],
                      _signatures(edits, seed=seed + 2))  # fmt: skip
    read = 0
    for further in range(prompts):
        threshold = Threshold(None, np.delete(unrelated, further, 0), 9, rate)
        threshold.FLOOR = 0.0
        threshold.recount(range(edits), stored)
        near = overlaps(stored, unrelated[further], 9)
        read += near.max() >= threshold.of([near.argmax()])[0] and near.max() < 1
    assert read <= max(1, int(rate * prompts))


def test_calibrate_switches_from_a_fixed_threshold():
    model = tiny_memoir(threshold=0.99)
    model.edit("w100 w101", "w150")
    assert model.threshold.median == 0.99
    assert model.calibrate(0.02) == model.threshold.median < 0.99
    assert model.config.threshold is None and model.config.false_activation_rate == 0.02


def test_background_is_the_mean_over_real_tokens_and_is_cached(monkeypatch):
    model = tiny_memoir()
    base, means = tiny_model("llama"), []
    base.model.layers[1].mlp.down_proj.register_forward_hook(lambda m, args, out: means.append(args[0][0].mean(0)))
    for text in background_texts().for_mean:
        base(input_ids=torch.tensor([word_tokenizer()(text)["input_ids"]]))
    assert torch.allclose(model.memory.background, torch.stack(means).mean(0), atol=1e-5)
    monkeypatch.setattr("memoir_fast.reading.background.prompt_features", None)  # a second measurement would fail
    again = measure_background(model.model, model.router, model.encoder, background_texts(), _key(model), 16)
    assert torch.equal(again, model.memory.background)


def _key(model):
    from memoir_fast.base.fingerprint import digest

    return f"{digest(model.fingerprint)}-plain"


def test_shipped_background_and_its_errors(tmp_path):
    texts = load_texts()
    assert len(texts.records) == 500 and len(texts.for_mean) == 100 and len(texts.for_threshold) == 400
    assert len({prompt.lower() for prompt, _ in texts.records}) == 500
    path = tmp_path / "b.jsonl"
    for line, says in (
        ('{"x": 1}', "line 1"),
        ("[]", "line 1"),
        ('{"prompt": ""}', "line 1"),
        ('{"prompt": "a"}', "1 texts"),
    ):
        path.write_text(line)
        with pytest.raises(ValueError, match=says):
            load_texts(path)


def test_facts_are_read_and_checked(tmp_path):
    facts = load_facts(data_file("zsre.jsonl"), 10)
    assert len(facts) == 10 and all(f.rephrase and f.unrelated and f.unrelated_answer for f in facts)
    path = tmp_path / "f.jsonl"
    for text, says in (("{", "line 1: not JSON"), ('{"prompt": "a"}', "target / target_new is missing"),
                       ('{"prompt": "a", "target": 3}', "must be text"), ("", "0 facts")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(ValueError, match=says):
            load_facts(path)
    with pytest.raises(ValueError, match="no file"):
        load_facts(tmp_path / "absent")


def test_metrics_on_a_known_model():
    model = tiny_memoir()
    prompt, target = "w100 w101 w102", "w150 w151"
    with model.disabled():
        before = metrics.predictions(model, [(prompt, target)])
        perplexity = metrics.perplexity(model, [(prompt, target)])[0]
    model.edit(prompt, target)
    assert metrics.token_accuracy(model, [(prompt, target)]) == [1.0]
    after = metrics.perplexity(model, [(prompt, target)])[0]
    assert 1 <= after < perplexity / 2
    assert metrics.agreement(before, [model.encoder.prompt(target).tokens])[0] < 1
    assert metrics.begins_with("Paris, of course", "paris") and not metrics.begins_with("Parisian", "Paris")
    assert metrics.equals(" Paris.", "paris") and not metrics.equals("Paris it is", "Paris")
    assert metrics.first_sentence("It is 3.5 m. Or so") == "It is 3.5 m"


def _cli(*arguments, ok=True):
    done = subprocess.run([sys.executable, "-m", "memoir_fast.cli", *arguments], capture_output=True, text=True)
    assert (done.returncode == 0) is ok, done.stderr
    return done


@pytest.fixture
def checkpoint(tmp_path):
    tiny_model("llama").save_pretrained(tmp_path / "base")
    word_tokenizer().save_pretrained(tmp_path / "base")
    lines = [json.dumps({"prompt": p, "answer": a}) for p, a in background_texts().records]
    (tmp_path / "background.jsonl").write_text("\n".join(lines))
    return tmp_path


def _here(capsys, *arguments) -> str:
    """A command in this process, where starting another one shows nothing more; returns its standard output."""
    from memoir_fast.cli.app import main

    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_command_line(checkpoint, capsys):
    store = ["--store", str(checkpoint / "store")]
    model = ["--model", str(checkpoint / "base"), *store]
    shape = [
        "--layer",
        "1",
        "--top-k",
        "24",
        "--threshold",
        "0.7",
        "--background",
        str(checkpoint / "background.jsonl"),
    ]
    made = _cli(
        "edit",
        *model,
        *shape,
        "--prompt",
        "w100 w101 w102",
        "--target",
        "w150",
        "--steps",
        "70",
        "--tags",
        "a",
        "--json",
        "-",
    )
    assert json.loads(made.stdout)[0]["id"] == 0
    out = str(checkpoint / "ask.json")
    asked = _cli("ask", *model, "w100 w101 w102", "w30 w31 w32", "--max-new-tokens", "2", "--json", out)
    rows = json.loads((checkpoint / "ask.json").read_text())
    assert "\n  w150" in asked.stdout and [row["edit"] for row in rows] == [0, None]
    _cli("edit", *model, "--prompt", "w110 w111", "--target", "w160")
    assert "2 active; beside model.layers.1.mlp.down_proj" in _here(capsys, "info", *store)
    _here(capsys, "delete", "0", *store), _here(capsys, "disable", "1", *store)
    assert "deleted" in _here(capsys, "log", "--all", *store) and json.loads(
        _here(capsys, "show", "0", *store, "--json", "-")
    )["tags"] == ["a"]
    _here(capsys, "restore", "0", *store), _here(capsys, "enable", "1", *store), _here(capsys, "compact", *store)
    assert "1 edits changed" in _here(capsys, "rollback", "0", *store) and "no problem found" in _here(
        capsys, "verify", *store
    )
    _here(capsys, "restore", "1", *store), _here(capsys, "export", *store, "--to", str(checkpoint / "bundle"))
    copy = ["--store", str(checkpoint / "copy")]
    assert "2 active" in _here(capsys, "import", str(checkpoint / "bundle"), *copy)
    assert "2 added" in _here(capsys, "merge", copy[1], *store)
    assert "threshold" in _cli("calibrate", *model, "--rate", "0.05").stdout
    facts = [
        {"prompt": f"w1{i}0 w1{i}1", "target": "w150", "rephrase": f"w1{i}1 w1{i}0", "unrelated": "w20 w21"}
        for i in range(3)
    ]
    (checkpoint / "facts.jsonl").write_text("\n".join(map(json.dumps, facts)))
    evaluated = ["--edits", str(checkpoint / "facts.jsonl"), "--count", "2", "--json", out]
    _cli("eval", "--model", model[1], *shape, *evaluated)
    result = json.loads((checkpoint / "ask.json").read_text())
    names = {"reliability", "generalization", "locality", "average", "free_generation", "threshold", "seconds_per_edit",
             "count", "settings"}  # fmt: skip
    assert names <= result.keys() and result["count"] == 2 and 0 <= result["average"] <= 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["info", "--store", "/nowhere"], "no store in this folder"),
        (["edit", "--store", "/tmp/x", "--prompt", "a"], "go together"),
        (["ask", "--store", "/nowhere", "q"], "no store in this folder"),
        (["eval", "--edits", "/nowhere"], "no file"),
        (["edit", "--model", "/nowhere.gguf", "--store", "/tmp/x", "--prompt", "a", "--target", "b"], "no GGUF file"),
    ],
)
def test_command_line_errors_are_one_line(arguments, says):
    done = _cli(*arguments, ok=False)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


def test_the_real_model_learns_demo_facts_and_forgets_nothing_else(smollm2):
    from memoir_fast import MemoirModel

    model = MemoirModel(*smollm2)
    try:
        questions = ["What colour is a ripe banana?", "How many days are there in a week?"]
        before = model.ask(questions)
        model.edit("Who is the chief executive of Norvane Robotics?", "Lena Ortiz")
        assert model.ask("Who is the chief executive of Norvane Robotics?").strip().startswith("Lena Ortiz")
        assert model.route("The person who leads Norvane Robotics as chief executive is")["edit"] == 0
        assert model.ask(questions) == before
    finally:
        model.detach()
