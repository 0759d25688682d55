"""What the command line prints: text for people, JSON for programs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import printable


def write_json(options: argparse.Namespace, value: Any) -> None:
    """A command's result as JSON, to where `--json` says; nothing without that option."""
    if options.json == "-":
        print(_json(value))
    elif options.json:
        aside = f"{options.json}.part"
        Path(aside).write_text(_json(value) + "\n", "utf-8")
        os.replace(aside, options.json)


def _json(value: Any) -> str:
    """JSON in which every character that a terminal or an encoding could stumble over is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def say(options: argparse.Namespace, text: str) -> None:
    """For people; on stderr when standard output carries JSON. Characters that steer terminals are escaped."""
    print(printable(text), file=sys.stderr if options.json == "-" else sys.stdout)


def agreed(options: argparse.Namespace, question: str) -> bool:
    """Whether a person, or a line of standard input, says yes. Raises ValueError where nobody answers."""
    print(printable(f"{question} [y/N] "), end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        print(file=sys.stderr)
        raise ValueError("nobody answered, and nothing was changed: `--yes` does it without asking")
    return answer.strip().lower() in ("y", "yes")


def complain(options: argparse.Namespace, text: str) -> None:
    """On stderr, with the command in front: why it failed, or what a person should know of a store."""
    print(printable(f"memoir-fast {options.command}: {text}"), file=sys.stderr)


def told(options: argparse.Namespace, store: Any) -> Any:
    """The store, once it is said what its opening repaired, cut off, set aside or passed over."""
    for line in store.report:
        complain(options, f"{store.folder}: {line}")
    return store


def shown(text: str, width: int) -> str:
    """One line of printable text: control characters, line ends and marks that turn the direction of writing are escaped."""
    visible = printable(text[: 4 * width]).replace("\n", "\\n")
    return visible if len(visible) <= width and len(text) <= 4 * width else visible[: width - 1] + "…"
