"""`memoir-fast serve --edit-port`: the command of the service beside vLLM."""

from __future__ import annotations

import json
import sys

import pytest

from memoir_fast.cli.app import parser
from memoir_fast.serving.beside import edit_server, follower, vllm_key


@pytest.fixture
def keys(tmp_path):
    (tmp_path / "keys.json").write_text(json.dumps({"ann": {"role": "approve", "key": "0123456789-0123456789"}}))
    return str(tmp_path / "keys.json")


def _options(*words):
    return parser().parse_args(["serve", "--store", "s", "--edit-port", "8100", *words])


def test_its_command_is_one_that_the_parser_takes(keys):
    for host, url in (
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
    ):
        command = edit_server(
            _options("--edit-keys", keys, "--host", host, "--edit-page", "--edit-review", "--edit-device", "cuda:1")
        )
        assert command[:3] == [sys.executable, "-m", "memoir_fast.cli"]
        found = parser().parse_args(command[3:])
        assert (found.command, found.vllm_url, found.host, found.port, found.device) == (
            "edit-server",
            url,
            "127.0.0.1",
            8100,
            "cuda:1",
        )
        assert (found.keys, found.page, found.review, found.store, found.model) == (keys, True, True, "s", "smollm2")
    assert parser().parse_args(edit_server(_options("--edit-keys", keys))[3:]).device == "cpu"


def test_what_follows_is_a_command_that_the_parser_takes():
    options = parser().parse_args(["serve", "--store", "s", "--follow", "http://editor:8100", "--port", "8001"])
    command = follower(options)
    assert command[:3] == [sys.executable, "-m", "memoir_fast.cli"]
    found = parser().parse_args(command[3:])
    assert (found.command, found.url, found.store, found.vllm_url) == (
        "follow",
        "http://editor:8100",
        "s",
        "http://127.0.0.1:8001",
    )
    assert found.parent and not found.once
    with pytest.raises(ValueError, match="--edit-port: a store that follows another one is not edited here"):
        follower(_options("--follow", "http://editor:8100"))


def test_what_cannot_start_is_said_before_anything_is(keys):
    with pytest.raises(ValueError, match="vLLM listens on port 8100"):
        edit_server(_options("--edit-keys", keys, "--port", "8100"))
    with pytest.raises(ValueError, match="there is no file"):
        edit_server(_options("--edit-keys", "nowhere"))


@pytest.mark.parametrize(
    "words, key",
    [
        (["--api-key", "k", "--api-key", "l"], "k"),
        (["--dtype", "float32", "--api-key=m"], "m"),
        (["--api-key"], None),
        ([], None),
    ],
)
def test_its_key_for_vllm_is_the_one_that_vllm_is_given(words, key):
    assert vllm_key(words) == key
