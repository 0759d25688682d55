"""The command line's entry: the parser, and what a failing command prints."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback

from .. import __version__
from ..errors import EditError, StoreError, on_purpose, passed_through
from . import (
    ask_commands,
    catalog_commands,
    chat_command,
    edit_command,
    edit_server_command,
    follow_command,
    model_commands,
    plan_command,
    serve_command,
    stats_command,
    store_commands,
    tune_command,
)
from .parsers import Commands, Run
from .terminal import complain

# Exit statuses beside 0 and argparse's 2: not everything that was asked for came about (1 is the commands' own), bad input, our own bug,
# interrupted, and the reader of standard output gone.
BAD_INPUT, OWN_BUG, INTERRUPTED, NO_READER = 2, 3, 130, 141
_GROUPS = (
    edit_command,
    ask_commands,
    chat_command,
    model_commands,
    tune_command,
    plan_command,
    catalog_commands,
    store_commands,
    serve_command,
    edit_server_command,
    follow_command,
    stats_command,
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status, see `docs/reference/cli.md`. What is wrong with the input is one sentence on stderr; an error
    that is a bug of the library is shown with its traceback."""
    options = _parsed(arguments)
    try:
        status = options.run(options) or 0
        print(end="", flush=True)  # here, where a reader that is gone or a full disk can be told of
        return status
    except KeyboardInterrupt:
        print("interrupted; finished edits are kept", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `memoir-fast log | head`: nothing is left to be said, nor to whom
        _drop_output()
        return NO_READER
    except Exception as error:
        users = _is_the_users(error)
        if options.debug or not users:
            traceback.print_exc()
        complain(
            options,
            str(error) or ("there is not enough memory" if isinstance(error, MemoryError) else type(error).__name__)
            if users
            else f"this is a bug of memoir_fast {__version__}, please report it with the lines above",
        )
        try:
            print(end="", flush=True)
        except OSError:
            _drop_output()
        return BAD_INPUT if users else OWN_BUG


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The options. Raises SystemExit after --help and --version, and for what argparse refuses."""
    try:
        try:
            return parser().parse_args(arguments)
        except SystemExit:
            print(end="", flush=True)
            raise
    except BrokenPipeError:
        _drop_output()
        raise SystemExit(NO_READER) from None
    except OSError as error:
        _drop_output()
        print(f"memoir-fast: {error}", file=sys.stderr)
        raise SystemExit(BAD_INPUT) from None


def _drop_output() -> None:
    """Let what was not written yet go nowhere; else Python would try again at its end, and complain."""
    with contextlib.suppress(OSError):  # of a standard output that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_the_users(error: Exception) -> bool:
    """Whether an error tells of the input, the files or the machine, and not of a bug of the library."""
    if isinstance(error, (StoreError, EditError, OSError, MemoryError)) or _is_torchs_memory(error):
        return True
    if isinstance(error, ImportError):  # an optional package, or one that is broken; not one of our own modules
        return on_purpose(error) or not str(error.name or "").startswith("memoir_fast")
    if isinstance(error, (ValueError, TypeError)) and on_purpose(error):
        return True
    return passed_through(error, "memoir_fast.base.loading")  # a checkpoint that transformers cannot load


def _is_torchs_memory(error: Exception) -> bool:
    """Whether torch, which is not loaded for every command, had too little memory: on a GPU a class of its own, on a CPU a RuntimeError."""
    names = [(one.__module__.partition(".")[0], one.__name__) for one in type(error).__mro__]
    return ("torch", "OutOfMemoryError") in names or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    found = argparse.ArgumentParser(prog="memoir-fast", description="Edit language models with a residual memory.")
    found.add_argument("--version", action="version", version=__version__)
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in _GROUPS:
        group.add(commands, command)
    return found


def command(commands: Commands, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    """A command's parser: `run(options)` does it, `text` says what it does."""
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    parser.add_argument("--json", metavar="FILE", help="also write the result as JSON to FILE (- for standard output)")
    parser.add_argument("--debug", action="store_true", help="show where an error came from, also one of the input")
    return parser
