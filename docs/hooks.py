"""What MkDocs fills in from the code: the command line from the argparse parser, the settings from the dataclass, and the API page
from the package's list of public names. A page asks for it with a comment line such as `<!-- generated: config -->`."""

from __future__ import annotations

import argparse
import re
from dataclasses import MISSING, fields


def on_page_markdown(markdown: str, **_) -> str:
    """MkDocs' hook: replace the comments that name generated text."""
    return re.sub(r"<!-- generated: (\w+) -->", lambda match: _GENERATED[match[1]](), markdown)


def command_line() -> str:
    """One section a command, with a table of its options; those that every command with a model takes come once, at the end."""
    from memoir_fast.cli import app

    commands = next(action for action in app.parser()._actions if isinstance(action, argparse._SubParsersAction))
    found = []
    for name, command in commands.choices.items():
        settings = {
            id(a) for group in command._action_groups if "settings" in (group.title or "") for a in group._group_actions
        }
        usage = f"{command.prog} [options] {_operands(command)}".rstrip()
        found.append(f"## {name}\n\n{command.description}\n\n```text\n{usage}\n```\n\n{_options(command, settings)}")
        if settings:
            found.append(
                "It also takes every setting of [`MemoirConfig`](config.md) as a flag: `--top-k`, `--edit-lr`, ...\n"
            )
    return "\n".join(found)


def _operands(command: argparse.ArgumentParser) -> str:
    """What a command must be given: its required options, then its operands."""
    needed = [a for a in command._actions if a.required and a.option_strings]
    words = [f"{a.option_strings[-1]} {a.metavar or a.dest.upper()}" for a in needed]
    for action in (a for a in command._actions if not a.option_strings):
        name = action.metavar or action.dest.upper()
        words.append({"+": f"{name} ...", "*": f"[{name} ...]"}.get(action.nargs, name))
    return " ".join(words)


def _options(command: argparse.ArgumentParser, left_out: set[int]) -> str:
    rows = ["| option | what it does |", "|---|---|"]
    for action in command._actions:
        if id(action) in left_out or isinstance(action, argparse._HelpAction):
            continue
        name = ", ".join(action.option_strings) or action.metavar or action.dest
        value = "" if not action.option_strings or action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
        text = (action.help or "") % {"default": action.default, "prog": command.prog}
        notes = ["required"] if action.required and action.option_strings else []
        notes += [f"one of {', '.join(map(str, action.choices))}"] if action.choices else []
        if action.default not in (None, False, "", []) and "default" not in (action.help or ""):
            notes.append(f"default: {action.default}" if action.default is not argparse.SUPPRESS else "")
        text += f" ({'; '.join(filter(None, notes))})" if any(notes) else ""
        rows.append(f"| `{name}{value}` | {_cell(text)} |")
    return "\n".join(rows) + "\n"


def config() -> str:
    """A table of the settings: name, type, default and help text."""
    from memoir_fast.config import MemoirConfig

    told = _told(MemoirConfig.__doc__ or "")
    rows = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for field in fields(MemoirConfig):
        default = field.default if field.default is not MISSING else field.default_factory()
        text = field.metadata.get("help") or told.get(field.name, "")
        if not text:
            raise ValueError(f"MemoirConfig.{field.name} has no help text")
        kind = field.type if isinstance(field.type, str) else field.type.__name__
        rows.append(f"| `{field.name}` | `{_cell(kind)}` | `{default!r}` | {_cell(text)} |")
    return "\n".join(rows) + "\n"


def _told(docstring: str) -> dict[str, str]:
    """The texts of a docstring's Args section, by name; `a, b: text` tells of both."""
    section = docstring.partition("Args:\n")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    for part in re.split(r"\n(?=        \w)", section):
        names, _, text = part.partition(":")
        for name in names.replace("`", "").split(","):
            found[name.strip()] = " ".join(text.split())
    return found


def api() -> str:
    """The public names of the package, documented from their docstrings."""
    import memoir_fast

    # What the front takes over from its parts (asking, undo, attaching) is told of as its own.
    more = {"MemoirModel": "\n    options:\n      inherited_members: true"}
    return "\n\n".join(
        f"::: memoir_fast.{module}.{name}{more.get(name, '')}"
        for name, module in memoir_fast._NAMES.items()
        if module != "errors"
    )


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


_GENERATED = {"cli": command_line, "config": config, "api": api}
