"""What the command line prints: text for people, JSON for programs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any


def write_json(options: argparse.Namespace, value: Any) -> None:
    """A command's result as JSON, to where `--json` says; nothing without that option."""
    if options.json == "-":
        print(json.dumps(value, indent=2, ensure_ascii=False))
    elif options.json:
        aside = f"{options.json}.part"
        Path(aside).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
        os.replace(aside, options.json)


def say(options: argparse.Namespace, text: str) -> None:
    """For people; on stderr when standard output carries JSON."""
    print(text, file=sys.stderr if options.json == "-" else sys.stdout)


def shown(text: str, width: int) -> str:
    """One line of printable text: control characters, line ends and marks that turn the direction of writing are escaped."""
    visible = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: 4 * width])
    return visible if len(visible) <= width and len(text) <= 4 * width else visible[: width - 1] + "…"
