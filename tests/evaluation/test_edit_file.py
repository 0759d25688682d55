"""Files of facts and of questions: what is carried, and what is refused with its line."""

from __future__ import annotations

import io
import json

import pytest

from memoir_fast.base import json_text
from memoir_fast.evaluation import edit_file
from memoir_fast.evaluation.edit_file import FIELDS, load_edits
from memoir_fast.evaluation.questions import load_questions

WHOLE = {"prompt": "p", "target": "t", "rephrasings": ["r"], "not_prompts": ["n"], "tags": ["a", "b"], "subject": "s", "key": "k",
         "author": "ann", "metadata": {"ticket": [1, {"a": None}]}}  # fmt: skip


def _load(tmp_path, text: str, name: str = "facts.jsonl"):
    (tmp_path / name).write_text(text)
    return load_edits(tmp_path / name)


def _is_whole(statement) -> None:
    request = statement.request
    assert (request.prompt, request.target, request.subject, request.key) == ("p", "t", "s", "k")
    assert (request.rephrasings, request.not_prompts) == (("r",), ("n",))
    assert (statement.tags, statement.author, statement.metadata) == (("a", "b"), "ann", WHOLE["metadata"])


def test_both_kinds_carry_every_field(tmp_path):
    assert set(WHOLE) == set(FIELDS)
    _is_whole(_load(tmp_path, json.dumps(WHOLE)).statements[0])
    names = list(WHOLE)
    cells = {
        **WHOLE,
        "rephrasings": "r",
        "not_prompts": '["n"]',
        "tags": "a | b",
        "metadata": json.dumps(WHOLE["metadata"]),
    }
    row = ",".join('"' + str(cells[name]).replace('"', '""') + '"' for name in names)
    _is_whole(_load(tmp_path, "\ufeff" + ",".join(names) + "\r\n\r\n" + row + "\r\n", "FACTS.CSV").statements[0])


def test_lines_of_csv_are_counted_where_cells_have_several(tmp_path):
    file = _load(tmp_path, 'prompt,target\n"a\nb",t\n\nc,\nd,t,x\n', "facts.csv")
    assert [one.error for one in file.statements] == [
        "",
        "target / target_new is missing or empty",
        "has 3 cells, the first row names 2 columns: put a text with commas between double quotes",
    ]
    assert file.statements[0].request.prompt == "a\nb"
    assert [one.where.rpartition(", ")[2] for one in file.statements] == ["line 2", "line 5", "line 6"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must name the columns"),
        ("prompt,target\n", "has 0 facts, asked for at least one"),
        ("a,b\n1,2\n", "line 1: must name the columns, prompt and target among them"),
        ("prompt,target,target\np,t,u\n", "each once"),
        ('prompt,target\n"p,t\n', "not CSV"),
        ("prompt,target,metadata\np,t,x\n", "line 2: metadata: 'x': not JSON"),
        ("prompt,target,metadata\np,t,7\n", "line 2: metadata must be a JSON object"),
        ('prompt,target,tags\np,t,"[1]"\n', "line 2: tags must be a list of non-empty texts"),
    ],
)
def test_what_is_wrong_with_csv_is_told(tmp_path, text, says):
    with pytest.raises(ValueError) as caught:
        _load(tmp_path, text, "facts.csv").checked()
    assert says in str(caught.value) and "facts.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ([1], "expected a JSON object, got list"),
        ({"prompt": "p"}, "target / target_new is missing or empty"),
        ({"prompt": 7, "target": "t"}, "prompt must be text, got int"),
        ({"prompt": " ", "target": "t"}, "prompt is empty"),
        ({"prompt": "p", "target": "t", "tags": "a"}, "tags must be a list of texts"),
        ({"prompt": "p", "target": "t", "author": 7}, "author must be text"),
        ({"prompt": "p", "target": "t", "rephrasings": "a"}, "rephrasings must be a list of texts"),
        ({"prompt": "p", "target": "t", "metadata": []}, "metadata must be a JSON object"),
        ({"prompt": "p", "target": "t", "tag": ["a"]}, "field 'tag' is unknown: did you mean 'tags'?"),
        ({"prompt": "p", "target": "t", "meta_data": {}}, "did you mean 'metadata'?"),
        ({"prompt": "p", "target": "t", "not_prompts": ["P"]}, "it cannot be both"),
    ],
)
def test_what_is_wrong_with_a_line_is_told(tmp_path, record, says):
    file = _load(tmp_path, json.dumps(WHOLE) + "\n" + json.dumps(record))
    assert [one.error == "" for one in file.statements] == [True, False] and says in file.statements[1].error
    with pytest.raises(ValueError) as caught:
        file.checked()
    assert "facts.jsonl, line 2: " in str(caught.value)


def test_fields_that_no_edit_keeps_are_named(tmp_path):
    file = _load(
        tmp_path, json.dumps({"prompt": "p", "target_new": "t", "rephrase_prompt": "r", "case_id": 7, "key": None})
    )
    assert file.left_out == ["rephrase_prompt", "case_id"] and file.checked()[0].request.key == ""


def test_only_the_first_are_read(tmp_path):
    (tmp_path / "facts.jsonl").write_text(json.dumps(WHOLE) + "\n{")
    assert len(load_edits(tmp_path / "facts.jsonl", 1).checked()) == 1
    with pytest.raises(ValueError, match="has 2 facts, asked for 3"):
        load_edits(tmp_path / "facts.jsonl", 3)


def test_questions(tmp_path):
    for name, text in (
        ("q.jsonl", '"a"\n\n{"question": "b "}\n{"prompt": "c"}'),
        ("q.csv", "n,prompt\n1,a\n2,b\n3,c\n4,\n"),
        ("q.txt", "a\n \nb\nc"),
    ):
        (tmp_path / name).write_text(text)
        assert load_questions(tmp_path / name, "--from") == ["a", "b", "c"] and load_questions(
            tmp_path / name, "--from", 2
        ) == ["a", "b"]
        with pytest.raises(ValueError, match="has 3 questions, asked for 4"):
            load_questions(tmp_path / name, "--from", 4)
    (tmp_path / "q.txt").write_text("\n")
    with pytest.raises(ValueError, match="has 0 questions"):
        load_questions(tmp_path / "q.txt", "--from")


@pytest.mark.parametrize(
    ("name", "text"),
    [("q.jsonl", '"a"\n"b"\n{'), ("q.csv", 'prompt\na\nb\n"c'), ("q.txt", "a\nb\nc")],
)
def test_only_the_first_questions_are_looked_at(tmp_path, name, text, monkeypatch):
    (tmp_path / name).write_text(text)
    seen = []
    monkeypatch.setattr(json_text, "whole", lambda value, where: seen.append(value) or value)
    assert load_questions(tmp_path / name, "--from", 2) == ["a", "b"] and len(seen) <= 2


def test_a_bug_is_no_lines_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(edit_file, "note_of", lambda *_: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        _load(tmp_path, json.dumps(WHOLE))


@pytest.mark.parametrize("text", ["", "a", "a\n", "a\r\nb\rc\n\nd", "\u2028x\x85y\n", "\r\r\n", '"a\nb",c\r\n'])
def test_the_lines_of_csv_are_those_of_the_standard_library(text):
    assert list(json_text.with_ends(text)) == list(io.StringIO(text, newline=""))
