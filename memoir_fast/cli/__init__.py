"""The command line, `memoir-fast`: one module for each kind of command."""

from .app import main

__all__ = ["main"]
