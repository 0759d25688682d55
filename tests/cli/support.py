"""A tiny checkpoint on the disk, and commands in this process."""

from __future__ import annotations

import io
import json

import pytest

from memoir_fast.cli.app import main
from tests.support.models import background_texts, tiny_model, word_tokenizer


def save_checkpoint(folder) -> None:
    """A tiny model's checkpoint, `base`, and unrelated prompts, `background.jsonl`."""
    tiny_model("llama").save_pretrained(folder / "base")
    word_tokenizer().save_pretrained(folder / "base")
    lines = [json.dumps({"prompt": p, "answer": a}) for p, a in background_texts().records]
    (folder / "background.jsonl").write_text("\n".join(lines))


def options_of(folder) -> list[str]:
    """The options of commands on the checkpoint and its store."""
    return ["--model", str(folder / "base"), "--store", str(folder / "store")]


def shape_of(folder) -> list[str]:
    """The options of a new memory beside the tiny model."""
    background = str(folder / "background.jsonl")
    return ["--layer", "1", "--top-k", "24", "--no-chat-template", "--end", "none", "--background", background]


class Commands:
    """Runs commands in this process.

    Attributes:
        status: of the last one; out, err: what it wrote.
    """

    def __init__(self, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
        self._capsys, self._monkeypatch = capsys, monkeypatch
        self.status, self.out, self.err = 0, "", ""

    def __call__(self, *arguments: str, says: str = "", status: int = 0) -> str:
        """Run a command with `says` as its standard input; returns its standard output."""
        self._monkeypatch.setattr("sys.stdin", io.StringIO(says))
        self.status = main(list(arguments))
        self.out, self.err = self._capsys.readouterr()
        assert self.status == status, self.err
        return self.out

    def json(self, *arguments: str, **how):
        """What a command writes as JSON."""
        return json.loads(self(*arguments, "--json", "-", **how))
