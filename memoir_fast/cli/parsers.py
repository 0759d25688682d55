"""The types that the commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Protocol, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[argparse.Namespace], None]


class Command(Protocol):
    """`app.command`: adds a command to the parser."""

    def __call__(self, commands: Commands, name: str, run: Run, text: str) -> argparse.ArgumentParser:
        """The command's own parser."""
