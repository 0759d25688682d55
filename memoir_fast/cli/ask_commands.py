"""The commands that ask an edited model and change nothing: ask, route, check."""

from __future__ import annotations

import argparse
from typing import Any

from .looking_up import looked_up
from .model_options import model_options, open_model
from .parsers import Command, Commands, count
from .terminal import say, shown, write_json


def add(commands: Commands, command: Command) -> None:
    """Add the commands to the parser. command: `app.command`."""
    ask = command(commands, "ask", _ask, "answer questions with the edited model")
    model_options(ask, store=True)
    ask.add_argument("questions", nargs="+", metavar="QUESTION", help="each is asked by itself")
    ask.add_argument(
        "--max-new-tokens", type=count, default=32, metavar="N", help="longest answer in tokens (%(default)s)"
    )

    route = command(commands, "route", _route, "which edit a question would read, and why")
    model_options(route, store=True)
    route.add_argument("questions", nargs="+", metavar="QUESTION", help="each is looked up by itself")
    route.add_argument("--top", type=count, default=5, metavar="N", help="most candidates to show (%(default)s)")

    check = command(
        commands, "check", _check, "which of a file's questions would read an edit, and which edit; nothing is answered"
    )
    model_options(check, store=True)
    check.add_argument("--from", dest="questions", metavar="FILE", required=True, help="JSONL (a text a line, or objects with question or "
                       "prompt), CSV with a column of one of these names, or text with a question a line")  # fmt: skip
    check.add_argument("--count", type=count, metavar="N", help="only the first N questions of FILE (default: all)")
    check.add_argument("--all", action="store_true", help="also list the questions that read no edit")


def _ask(options: argparse.Namespace) -> None:
    model = open_model(options, read_only=True)
    texts = model.ask(options.questions, max_new_tokens=options.max_new_tokens)
    rows = []
    for question, answer in zip(options.questions, texts, strict=True):
        found = model.route(question, top=1)
        rows.append({"question": question, "answer": answer, **{n: found[n] for n in ("edit", "score", "threshold")}})
        say(options, f"{question}\n  {answer.strip()}\n  ({read_by(found)})")
    write_json(options, rows)


def _route(options: argparse.Namespace) -> None:
    model = open_model(options, read_only=True)
    rows = []
    for question in options.questions:
        found = model.route(question, options.top)
        rows.append({"question": question, **found})
        explain(options, question, found, model.edits)
    write_json(options, rows)


def _check(options: argparse.Namespace) -> None:
    from ..evaluation.questions import load_questions

    questions = load_questions(options.questions, "--from", options.count)
    model = open_model(options, read_only=True)
    rows: list[dict[str, Any]] = [
        {"question": question, **{name: found[name] for name in ("edit", "score", "threshold")}}
        for question, found in zip(questions, looked_up(model, questions, "checking", top=1), strict=True)
    ]
    reading = [row for row in rows if row["edit"] is not None]
    say(options, f"{'edit':>6}  {'score':>6}  {'from':>6}  question")
    for row in rows if options.all else reading:
        edit = "-" if row["edit"] is None else row["edit"]
        say(options, f"{edit:>6}  {row['score']:>6.3f}  {row['threshold']:>6.3f}  {shown(row['question'], 100)}")
    edits = len({row["edit"] for row in reading})
    say(options, f"{len(reading)} of {len(rows)} questions read an edit, {edits} of {len(model.edits)} edits are read")
    write_json(options, rows)


def read_by(found: dict[str, Any]) -> str:
    """What a question reads, in a few words. found: its route."""
    used = "base model" if found["edit"] is None else f"edit {found['edit']}"
    return f"{used}, score {found['score']:.2f}, threshold {found['threshold']:.2f}"


def explain(
    options: argparse.Namespace, question: str, found: dict[str, Any], edits: dict[int, dict[str, Any]]
) -> None:
    """Say why a question reads what it reads. edits: the rows of those in force."""
    read = "reads the base model" if found["edit"] is None else f"reads edit {found['edit']}"
    say(options, f"{question}\n  {read} (threshold {found['threshold']:.2f})")
    for one in found["candidates"]:
        say(options, f"  edit {one['edit']}: score {one['score']:.3f}  {edits[one['edit']]['prompt']}")
        for name in ("missing", "added", "kept_out"):
            if one.get(name):
                said = one[name] if isinstance(one[name], str) else ", ".join(one[name])
                say(options, f"    {name}: {said}")
