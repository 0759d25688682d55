"""JSON of untrusted files: how deep it is nested is counted outside its texts, in little memory."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from memoir_fast.base.json_text import DEEPEST, parse


@pytest.mark.parametrize("text", ["[" * 9000, '\\"' * 9000, '"[' * 9000, "\\" + "[" * 9000, '\\\\"{' * 9000, "{\n\\"])
def test_brackets_in_texts_are_not_counted(text):
    assert parse(json.dumps([text, text]), "x") == [text, text]
    deep: list = [text]
    for _ in range(DEEPEST - 1):
        deep = [text, deep]
    assert parse(json.dumps(deep), "x") == deep
    with pytest.raises(ValueError, match="nested deeper than 500 brackets"):
        parse(json.dumps([deep]), "x")


def test_escapes_take_no_memory_of_their_own():
    body = json.dumps(["[" * (DEEPEST + 1) + '"' * (1 << 18)])
    tracemalloc.start()
    parse(body, "x")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 8 * len(body)
