"""The command line, end to end on a tiny checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from memoir_fast.ops.search import engines
from tests.support.models import background_texts, tiny_memoir, tiny_model, word_tokenizer


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


def _shape(checkpoint) -> list[str]:
    """The options of a new memory beside the tiny model."""
    background = str(checkpoint / "background.jsonl")
    return ["--layer", "1", "--top-k", "24", "--threshold", "0.7", "--background", background]


def test_command_line(checkpoint, capsys):
    store = ["--store", str(checkpoint / "store")]
    model = ["--model", str(checkpoint / "base"), *store]
    shape = _shape(checkpoint)
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
    assert "1 edits changed" in _here(capsys, "rollback", "0", "--yes", *store) and "no problem found" in _here(
        capsys, "verify", *store
    )
    _here(capsys, "restore", "1", *store), _here(capsys, "export", *store, "--to", str(checkpoint / "bundle"))
    copy = ["--store", str(checkpoint / "copy")]
    assert "2 active" in _here(capsys, "import", str(checkpoint / "bundle"), *copy)
    assert "2 known" in _here(capsys, "merge", copy[1], *store)


def test_calibrate_draws_the_trade_off(checkpoint, capsys):
    pytest.importorskip("matplotlib")
    model = ["--model", str(checkpoint / "base"), "--store", str(checkpoint / "store")]
    first = ["--prompt", "w100 w101 w102", "--target", "w150", "--steps", "2", "--no-verify"]
    _here(capsys, "edit", *model, *_shape(checkpoint), *first)
    picture = ["--plot", str(checkpoint / "curve.svg"), "--json", str(checkpoint / "curve.json")]
    told = _cli("calibrate", *model, "--rate", "0.05", *picture).stdout
    assert "with 95 % confidence at most 9.14%" in told and "generated facts, not of your edits" in told
    report = json.loads((checkpoint / "curve.json").read_text())
    assert (checkpoint / "curve.svg").stat().st_size > 5000 and len(report["trade_off"]["rewordings"]) == 51
    assert report["false_activation_bound"] > 0.05


def test_eval_measures_a_stream(checkpoint):
    out = str(checkpoint / "eval.json")
    facts = [
        {"prompt": f"w1{i}0 w1{i}1", "target": "w150", "rephrase": f"w1{i}1 w1{i}0", "unrelated": "w20 w21"}
        for i in range(3)
    ]
    (checkpoint / "facts.jsonl").write_text("\n".join(map(json.dumps, facts)))
    evaluated = ["--edits", str(checkpoint / "facts.jsonl"), "--count", "2", "--json", out]
    _cli("eval", "--model", str(checkpoint / "base"), *_shape(checkpoint), *evaluated)
    result = json.loads((checkpoint / "eval.json").read_text())
    names = {"reliability", "generalization", "locality", "average", "free_generation", "threshold", "seconds_per_edit",
             "count", "settings"}  # fmt: skip
    assert names <= result.keys() and result["count"] == 2 and 0 <= result["average"] <= 1


def test_facts_say_how_they_are_asked(checkpoint, capsys):
    """Rephrasings, not_prompts, a key and the conflict policy, from options and from a file; what happened is told."""
    store = ["--store", str(checkpoint / "store")]
    model = ["--model", str(checkpoint / "base"), *store, "--steps", "2"]
    shape = [
        "--layer",
        "1",
        "--top-k",
        "24",
        "--background",
        str(checkpoint / "background.jsonl"),
        "--no-chat-template",
    ]
    facts = [
        {"prompt": "w100 w101 w102", "target": "w150", "rephrasings": ["w105 w106 w107"], "key": "a"},
        {"prompt": "w110 w111 w112", "target": "w151", "not_prompts": ["w110 w111"], "subject": "w112"},
    ]
    (checkpoint / "facts.jsonl").write_text("\n".join(map(json.dumps, facts)))
    edits = ["--edits", str(checkpoint / "facts.jsonl")]
    first = json.loads(
        _here(capsys, "edit", *model, *shape, *edits, "--conflict", "keep", "--no-verify", "--json", "-")
    )
    assert [row["rephrasings"] for row in first] == [["w105 w106 w107"], []] and first[0]["key"] == "a"
    again = _here(capsys, "edit", *model, *edits, "--count", "1")
    assert "1 facts, 1 stored" in again
    model.append("--no-verify")
    moved = ["--prompt", "w100 w101", "--target", "w155", "--key", "a"]
    assert "takes the place of edit 0" in _here(capsys, "edit", *model, *moved)
    kept = json.loads(_here(capsys, "edit", *model, "--prompt", "w110 w111 w112", "--target", "w156", "--json", "-"))
    assert kept[0]["supersedes"] == []  # this store keeps both
    shown = _here(capsys, "route", *model[:4], "w110 w111 w112", "w30 w31 w32", "--top", "2")
    assert "reads edit 3" in shown and "reads the base model" in shown and "w110 w111 w112" in shown
    rows = json.loads(_here(capsys, "route", *model[:4], "w110 w111", "--json", "-"))
    assert {"edit", "score", "threshold", "candidates"} <= rows[0].keys() and len(rows[0]["candidates"]) >= 2
    lines = [json.dumps({"prompt": f"{p} w100"}) for p, _ in background_texts().records]
    (checkpoint / "others.jsonl").write_text("\n".join(lines))
    _here(capsys, "calibrate", *model[:4], "--background", str(checkpoint / "others.jsonl"))
    assert (checkpoint / "store" / "base-000001.safetensors").exists()
    refused = _cli("edit", *model, *moved, "--conflict", "reject", ok=False)
    assert "conflict: a stored memory keeps the policy" in refused.stderr
    (checkpoint / "facts.jsonl").write_text(json.dumps({**facts[0], "rephrasings": "one text"}))
    assert "line 1: rephrasings must be a list" in _cli("edit", *model, *edits, ok=False).stderr


def test_a_tuned_model_says_so(checkpoint, capsys):
    """A row a candidate; the choice lies where the last line says; commands that edit, and info, tell that they took it."""
    shape = ["--model", str(checkpoint / "base"), "--background", str(checkpoint / "background.jsonl"), "--top-k", "24",
             "--no-chat-template", "--router", "mask", "--threshold", "0.7"]  # fmt: skip
    fact = {"prompt": "w100 w101", "target": "w150", "rephrase": "w101 w100", "unrelated": "w20 w21"}
    (checkpoint / "facts.jsonl").write_text(json.dumps(fact))
    tried = ["--facts", str(checkpoint / "facts.jsonl"), "--layers", "0", "1", "--context-counts", "0"]
    said = _here(capsys, "tune", *shape, *tried, "--json", str(checkpoint / "tune.json"))
    told = json.loads((checkpoint / "tune.json").read_text())
    assert told["settings"]["contexts"] == 0 and told["settings"]["layer"] in (0, 1) and len(told["rows"]) == 2
    assert len(said.splitlines()) == 4 and f"kept in {told['file']}" in said.splitlines()[-1]
    edit = ["edit", *shape, "--prompt", "w100 w101", "--target", "w150", "--steps", "2", "--no-verify"]
    layer = f"layer {told['settings']['layer']}, contexts 0; --tuned off"
    assert layer in _here(capsys, *edit, "--store", str(checkpoint / "store"))
    assert "(memoir-fast tune)" in _here(capsys, "info", "--store", str(checkpoint / "store"))
    assert "memoir-fast tune" not in _here(capsys, *edit, "--tuned", "off", "--store", str(checkpoint / "plain"))
    assert "memoir-fast tune" not in _here(capsys, "info", "--store", str(checkpoint / "plain"))
    _here(capsys, "tune", *shape, *tried, "--output", str(checkpoint / "mine.json"))
    assert "mine.json" in _here(
        capsys, *edit, "--tuned", str(checkpoint / "mine.json"), "--store", str(checkpoint / "own")
    )


def test_info_names_what_looks_edits_up(tmp_path, capsys):
    with tiny_memoir() as model:
        model.create_store(str(tmp_path / "s"))
    store = ["--store", str(tmp_path / "s"), "--lookup"]
    described = _here(capsys, "info", *store)
    assert f"look-up with router=mask (this store's): {engines()['mask']}\n" in described
    assert f"look-up with router=tokens: {engines()['tokens']}\n" in described
    assert json.loads(_here(capsys, "info", *store, "--json", "-"))["lookup"] == engines()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["info", "--store", "/nowhere"], "no store in this folder"),
        (["edit", "--store", "/tmp/x", "--prompt", "a"], "go together"),
        (["ask", "--store", "/nowhere", "q"], "no store in this folder"),
        (["eval", "--edits", "/nowhere"], "no file"),
        (["calibrate", "--store", "/nowhere", "--plot", "curve.docx"], "must end in one of"),
        (["edit", "--model", "/nowhere.gguf", "--store", "/tmp/x", "--prompt", "a", "--target", "b"], "no GGUF file"),
    ],
)
def test_command_line_errors_are_one_line(arguments, says):
    done = _cli(*arguments, ok=False)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
