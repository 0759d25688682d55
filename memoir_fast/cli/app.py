"""The command line's entry: the parser, and what a failing command prints."""

from __future__ import annotations

import argparse
import sys

from .. import __version__
from ..errors import StoreError
from . import model_commands, serve_command, store_commands, tune_command
from .parsers import Commands, Run
from .terminal import complain


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (2 for bad input, with the reason on stderr)."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("interrupted; finished edits are kept", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, ImportError, StoreError) as error:
        complain(options, str(error))
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="memoir-fast", description="Edit language models with a residual memory.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in (model_commands, tune_command, store_commands, serve_command):
        group.add(commands, command)
    return parser


def command(commands: Commands, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    """A command's parser: `run(options)` does it, `text` says what it does."""
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    parser.add_argument("--json", metavar="FILE", help="also write the result as JSON to FILE (- for standard output)")
    return parser
