"""Every option says what it does, and what holds without it."""

from __future__ import annotations

import argparse

import pytest

from memoir_fast.cli.app import main, parser


def _commands() -> dict[str, argparse.ArgumentParser]:
    [commands] = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return commands.choices


@pytest.mark.parametrize("name", list(_commands()))
def test_every_option_has_a_text_and_its_default(name):
    options = [one for one in _commands()[name]._actions if not isinstance(one, argparse._HelpAction)]
    assert {"--json", "--debug"} <= {flag for one in options for flag in one.option_strings}
    for action in options:
        text, default = action.help or "", action.default
        assert len(text) > 5, action
        if default not in (None, False, "", [], {}) and default is not argparse.SUPPRESS:
            assert "%(default)s" in text or f"(default: {default}" in text or "default: --" in text, action


def test_settings_say_their_choices():
    edit = _commands()["edit"]
    chosen = {action.dest: action.choices for action in edit._actions if action.choices}
    assert set(chosen["router"]) == {"tokens", "mask"} and set(chosen["conflict"]) == {"supersede", "keep", "reject"}
    assert "bfloat16" in chosen["dtype"]


@pytest.mark.parametrize("arguments", [["edit", "--store", "s", "--metadata", "7"], ["edit", "--store", "s", "--metadata", "{"], ["log", "--store", "s", "--count", "0"],
                                       ["search", "--store", "s", "--status", "gone"], ["tag", "0", "--store", "s"], ["tag", "0", "--store", "s", "--add", "a", "--clear"]])  # fmt: skip
def test_a_wrong_value_is_refused_by_the_parser(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    told = capsys.readouterr().err
    assert caught.value.code == 2 and "memoir-fast" in told and "Traceback" not in told
