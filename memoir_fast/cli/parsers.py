"""What the commands' parsers share: their types, and values of options."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

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
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error})") from None


def json_object(text: str) -> dict[str, Any]:
    """An option's value that must be a JSON object."""
    value = json_value(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is not a JSON object like {{"ticket": 7}}')
    return value


def count(text: str) -> int:
    """An option's value that counts something: a whole number from 1 on."""
    if not text.isdecimal() or not 1 <= int(text) < 1 << 53:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)
