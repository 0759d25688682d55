"""Facts and background files in every encoding: read, or refused with file, line and remedy."""

from __future__ import annotations

import json
import os

import pytest

from memoir_fast import EditRequest
from memoir_fast.evaluation.edit_file import load_edits
from memoir_fast.evaluation.facts import load_facts
from memoir_fast.reading.background import load_texts
from tests.support.models import tiny_memoir
from tests.support.patience import within


def load_requests(path):
    """The requests of a file of edits, every line of it sound."""
    return [statement.request for statement in load_edits(path).checked()]


GOOD = {"prompt": "Wer leitet Zürich?", "target": "Léa"}


def line(**changes) -> str:
    return json.dumps({**GOOD, **changes}, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b\x0c".replace("\x0b\x0c", "\u2028\u2029")])
def test_only_a_line_feed_ends_a_line(tmp_path, separator):
    path = tmp_path / "facts.jsonl"
    path.write_text(line(prompt=f"a{separator}b") + line(), "utf-8")
    assert [fact.prompt for fact in load_facts(path)] == [f"a{separator}b", GOOD["prompt"]]
    path.write_text("".join(line(prompt=f"{n}{separator}") for n in range(150)), "utf-8")
    assert len(load_texts(path).records) == 150


@pytest.mark.parametrize("read", [load_facts, load_requests, load_texts], ids=lambda f: f.__name__)
def test_bytes_that_are_no_utf_8_are_refused_with_the_line_and_the_remedy(tmp_path, read):
    path = tmp_path / "facts.jsonl"
    for encoding, says in (("latin-1", "line 3: byte 0xfc"), ("utf-16", "line 1: byte 0xff")):
        path.write_bytes("".join([line(prompt="plain", target="x"), "\n", line()]).encode(encoding))
        with pytest.raises(ValueError, match=rf"facts\.jsonl, {says} is not UTF-8.*iconv"):
            read(path)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + (line() * 2).replace("\n", "\r\n").encode())
    assert [request.prompt for request in load_requests(path)] == [GOOD["prompt"]] * 2


@pytest.mark.parametrize("name", ["prompt", "target", "subject", "key", "more"])
def test_half_a_surrogate_pair_is_refused_with_its_line(tmp_path, name):
    path = tmp_path / "facts.jsonl"
    path.write_text(line() + json.dumps({**GOOD, name: "a\ud83d"}) + "\n")
    for read in (load_facts, load_requests):
        with pytest.raises(ValueError, match=r"facts\.jsonl, line 2: .*half a surrogate pair"):
            read(path)
    path.write_text(json.dumps({**GOOD, name: "a\ud83d\ude00"}) + "\n")  # both halves are a character
    assert load_requests(path)[0].prompt


@pytest.mark.parametrize(
    "text",
    ["[" * 10**6, '{"prompt": ' + "[" * 10**6, "NaN", "1e999", '{"prompt": NaN}', "7", "9" * 9999],
    ids=lambda t: t[:12],
)
def test_json_that_is_made_to_hurt_is_refused_with_its_line(tmp_path, text):
    path = tmp_path / "facts.jsonl"
    path.write_text(line() + text)
    for read in (load_facts, load_requests, load_texts):
        with within(), pytest.raises(ValueError, match=r"facts\.jsonl, line 2") as caught:
            read(path)
        assert len(str(caught.value)) < 600


def test_pipes_and_folders_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "nothing"):
        for read in (load_facts, load_requests, load_texts):
            with within(), pytest.raises(ValueError, match=r"regular file|no file"):
                read(path)


@pytest.mark.parametrize("about", [{"author": "\ud800"}, {"tags": ["\ud800"]}, {"metadata": {"a": ["\udfff"]}}, {"metadata": {"\ud800": 1}},
                                   {"rephrasings": ["\ud800"]}, {"not_prompts": ["\ud800"]}, {"subject": "\ud800"}, {"key": "\ud800"}])  # fmt: skip
def test_an_edit_takes_no_half_pairs(about):
    model = tiny_memoir()
    with pytest.raises(ValueError, match="half a surrogate pair"):
        model.edit("w100 w101", "w150", **about)
    for pair in (("w100 \ud800", "w150"), ("w100", "\udc00")):
        with pytest.raises(ValueError, match="half a surrogate pair"):
            model.edit(*pair)
        with pytest.raises(ValueError, match="half a surrogate pair"):
            EditRequest(*pair)
    with pytest.raises(ValueError, match="half a surrogate pair"):
        model.edit("w100 w101", "w150"), model.tag(0, ["\ud800"])
    deep: dict = {}
    for _ in range(200):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="nested"):
        model.edit("w100 w101", "w150", metadata=deep)
    assert len(model.memory) == 1
