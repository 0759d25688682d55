"""What the commands' parsers share: their types, and values of options."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from ..base import json_text
from ..errors import quoted

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
# Does a command; returns its exit status where that is not 0.
Run: TypeAlias = Callable[[argparse.Namespace], "int | None"]


class Command(Protocol):
    """`app.command`: adds a command to the parser."""

    def __call__(self, commands: Commands, name: str, run: Run, text: str) -> argparse.ArgumentParser:
        """The command's own parser."""


def store_option(parser: argparse.ArgumentParser) -> None:
    """Add `--store` of a command that needs an existing store."""
    parser.add_argument("--store", metavar="DIR", required=True, help="folder of the store")


def json_value(text: str) -> Any:
    """An option's value in JSON."""
    try:
        return json_text.value_of(text, quoted(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def json_object(text: str) -> dict[str, Any]:
    """An option's value that must be a JSON object."""
    value = json_value(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f'{quoted(text)} is not a JSON object like {{"ticket": 7}}')
    return value


def count(text: str) -> int:
    """An option's value that counts something: a whole number from 1 on."""
    value = number(text)
    if value is None or not 1 <= value < 1 << 53:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a whole number from 1 on")
    return value


def number(text: str) -> int | None:
    """The whole number from 0 on that a text is, of at most 18 digits; None for any other text."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def parent_option(parser: argparse._ActionsContainer) -> None:
    """Add the option by which a process beside a server ends with it."""
    parser.add_argument(
        "--parent",
        type=int,
        metavar="PID",
        help="the process that started this one, with which it ends (default: none)",
    )
