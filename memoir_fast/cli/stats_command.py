"""`memoir-fast stats`: which edits are read often, which never, and which nearly."""

from __future__ import annotations

import argparse
from typing import Any

from .looking_up import looked_up
from .model_options import model_options, open_model
from .parsers import Command, Commands, count
from .terminal import say, shown, write_json


def add(commands: Commands, command: Command) -> None:
    """Add the command to the parser. command: `app.command`."""
    stats = command(commands, "stats", _stats, "which edits are read often, never, or nearly: in a server since its start, or by a file of questions")  # fmt: skip
    source = stats.add_mutually_exclusive_group(required=True)
    source.add_argument("--url", metavar="URL", help="address of a server, like http://127.0.0.1:8000; its /metrics must be open to this machine")  # fmt: skip
    source.add_argument("--from", dest="questions", metavar="FILE", help="questions to look up in the store, in the forms that `check` takes")  # fmt: skip
    stats.add_argument("--store", metavar="DIR", help="folder of the store; with --url it adds the edits' prompts, and those never read")  # fmt: skip
    stats.add_argument("--count", type=count, metavar="N", help="only the first N questions of FILE (default: all)")
    stats.add_argument("--top", type=count, default=20, metavar="N", help="the most lines of each list to print (%(default)s)")  # fmt: skip
    model_options(stats)


def _stats(options: argparse.Namespace) -> None:
    if options.url is None and options.store is None:
        raise ValueError("--from needs --store: the store in which the questions are looked up")
    if options.url is not None and options.count is not None:
        raise ValueError("--count goes with --from")
    prompts, found = _of_server(options) if options.url is not None else _of_questions(options)
    rows = [{"edit": edit, **numbers, "prompt": prompts.get(edit)} for edit, numbers in found["edits"].items()]
    never = [{"edit": edit, "prompt": prompts.get(edit)} for edit in found.pop("never")]
    _tell(options, rows, never, found)
    write_json(options, {**found, "edits": rows, "never": never})


def _of_server(options: argparse.Namespace) -> tuple[dict[int, str], dict[str, Any]]:
    """The prompts of the store's active edits, where there is one, and what the server has counted."""
    from ..reading.usage import listed
    from ..serving.scrape import usage_of_server
    from .catalog_commands import opened

    prompts: dict[int, str] = {}
    if options.store is not None:
        prompts = {edit: row["prompt"] for edit, row in opened(options).state.edits.items()}
    lines = usage_of_server(options.url)
    found = listed(lines, prompts)
    others = lines[-1]
    return prompts, {**found, "other": {"reads": int(others["reads"]), "nearly_read": int(others["nearly"])}}


def _of_questions(options: argparse.Namespace) -> tuple[dict[int, str], dict[str, Any]]:
    """The prompts of the store's active edits, and what a file's questions read."""
    from ..evaluation.questions import load_questions
    from ..reading.usage import usage

    questions = load_questions(options.questions, "--from", options.count)
    model = open_model(options, read_only=True)
    rows = model.edits
    found = usage(looked_up(model, questions, "looking up"), rows)
    found["nearly"] = [
        {"question": questions[one["prompt"]], **{name: one[name] for name in ("edit", "score", "threshold")}}
        for one in found["nearly"]
    ]
    return {edit: row["prompt"] for edit, row in rows.items()}, {"questions": len(questions), **found}


def _tell(
    options: argparse.Namespace, rows: list[dict[str, Any]], never: list[dict[str, Any]], found: dict[str, Any]
) -> None:
    """Print the lists for people."""
    say(options, f"{'edit':>6}  {'reads':>8}  {'nearly read':>11}  prompt")
    for row in rows[: options.top]:
        say(
            options, f"{row['edit']:>6}  {row['reads']:>8}  {row['nearly_read']:>11}  {shown(row['prompt'] or '', 100)}"
        )
    _more(options, rows)
    other = found.get("other", {"reads": 0, "nearly_read": 0})
    if other["reads"] or other["nearly_read"]:
        say(
            options,
            f"{'other':>6}  {other['reads']:>8}  {other['nearly_read']:>11}  (edits without a line of their own)",
        )
    for one in found.get("nearly", [])[: options.top]:
        say(options, f"nearly read edit {one['edit']}: score {one['score']:.3f}, from {one['threshold']:.3f}: {shown(one['question'], 100)}")  # fmt: skip
    _more(options, found.get("nearly", []))
    if options.store is None:
        return
    if other["reads"]:
        say(options, f"{len(never)} edits have no line that says that they were read. Reads of others may be theirs: the server's variable "
            "MEMOIR_FAST_METRICS_EDITS gives more edits lines of their own")  # fmt: skip
    else:
        say(options, f"{len(never)} edits were never read" + (":" if never else ""))
    for row in never[: options.top]:
        say(options, f"{row['edit']:>6}  {shown(row['prompt'] or '', 100)}")
    _more(options, never)


def _more(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    if len(rows) > options.top:
        say(options, f"... and {len(rows) - options.top} more (--top)")
