"""The commands that load the base model: edit, ask, eval, calibrate, demo."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING

from ..config import MemoirConfig, help_of
from .parsers import Command, Commands
from .terminal import say, write_json

if TYPE_CHECKING:
    from ..model import MemoirModel


def add(commands: Commands, command: Command) -> None:
    """Add the commands to the parser. command: `app.command`."""
    edit = command(commands, "edit", _edit, "teach facts; the memory is kept in --store")
    _model_options(edit, store=True)
    edit.add_argument("--author", default="", help="kept with the edits")
    edit.add_argument("--tags", nargs="+", default=[], metavar="TAG", help="kept with the edits, to choose them by")
    edit.add_argument("--prompt", help="what will be asked")
    edit.add_argument("--target", help="the answer")
    edit.add_argument("--edits", metavar="FILE", help="JSONL with prompt and target (or target_new) on each line")
    edit.add_argument("--count", type=int, help="only the first COUNT lines of FILE")

    ask = command(commands, "ask", _ask, "answer questions with the edited model")
    _model_options(ask, store=True)
    ask.add_argument("questions", nargs="+", metavar="QUESTION")
    ask.add_argument("--max-new-tokens", type=int, default=32)

    evaluate = command(commands, "eval", _eval, "edit a stream of facts and measure the result")
    _model_options(evaluate)
    evaluate.add_argument(
        "--edits", metavar="FILE", required=True, help="JSONL: prompt, target[_new], rephrase_prompt, ..."
    )
    evaluate.add_argument("--count", type=int, help="only the first COUNT lines of FILE")

    calibrate = command(
        commands, "calibrate", _calibrate, "set the edits' thresholds for a wanted false-activation rate"
    )
    _model_options(calibrate, store=True)
    calibrate.add_argument(
        "--rate", type=float, help="largest chance that an unrelated prompt reads the memory (0.005)"
    )
    calibrate.add_argument(
        "--related", metavar="FILE", help="JSONL with rephrasings of stored edits (rephrase[_prompt])"
    )

    demo = command(commands, "demo", _demo, "edit twenty shipped facts and show the answers before and after")
    _model_options(demo)


def _model_options(parser: argparse.ArgumentParser, store: bool = False) -> None:
    parser.add_argument("--model", default="smollm2", help="smollm2, a hub id, a folder or a .gguf file (%(default)s)")
    parser.add_argument("--dtype", default="float32", help="dtype of the base model's weights (%(default)s)")
    if store:
        parser.add_argument("--store", metavar="DIR", required=True, help="folder of the store; `edit` makes it")
    parser.add_argument("--background", metavar="FILE", help="JSONL of unrelated prompts (default: the shipped ones)")
    settings = parser.add_argument_group("settings of the memory (stored with it)")
    for field in fields(MemoirConfig):
        flag, text = "--" + field.name.replace("_", "-"), help_of(field.name).replace("%", "%%")
        kind: Callable[[str], object] = {"int": int, "float": float}.get(str(field.type).replace(" | None", ""), str)
        if "bool" in str(field.type):
            settings.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif field.type == "dict | None":
            settings.add_argument(flag, type=json.loads, metavar="JSON", help=text)
        elif field.metadata["choices"]:
            settings.add_argument(flag, choices=field.metadata["choices"], help=text)
        else:
            kind = _layer if field.name == "layer" else kind
            settings.add_argument(flag, type=kind, metavar=field.name.upper(), help=text)


def _layer(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


def _open(options: argparse.Namespace, read_only: bool = False) -> MemoirModel:
    """The edited model that the options describe, with its store where the command has one."""
    from transformers.utils import logging

    from ..model import MemoirModel
    from ..store import is_store

    folder = getattr(options, "store", None)
    if read_only and (folder is None or not is_store(folder)):
        raise ValueError(f"--store {folder}: there is no store in this folder; `memoir-fast edit` makes one")
    logging.disable_progress_bar()  # transformers' own bars; ours stay
    settings = {f.name: getattr(options, f.name) for f in fields(MemoirConfig) if getattr(options, f.name) is not None}
    return MemoirModel.from_pretrained(
        options.model,
        store=folder,
        read_only=read_only,
        dtype=options.dtype,
        background=options.background,
        **settings,
    )


def _edit(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from ..editing.editor import EditError
    from ..evaluation.facts import Fact, load_facts

    if bool(options.edits) == bool(options.prompt or options.target):
        raise ValueError("give either --prompt and --target, or --edits FILE")
    if options.edits:
        facts = load_facts(options.edits, options.count)
    elif options.prompt and options.target:
        facts = [Fact(options.prompt, options.target)]
    else:
        raise ValueError("--prompt and --target go together")
    model = _open(options)
    first = model.next_id
    try:
        with tqdm(facts, desc="editing", unit="edit", disable=len(facts) == 1) as bar:
            for fact in bar:
                model.edit(fact.prompt, fact.target, author=options.author, tags=options.tags)
    except EditError as error:
        raise ValueError(str(error)) from error
    finally:
        model.close()
    results = [record for edit, record in model.edits.items() if edit >= first]
    for record in results[:20]:
        near = (
            "" if record["nearest"] is None else f", nearest edit {record['nearest']} (overlap {record['overlap']:.2f})"
        )
        say(options, f"edit {record['id']}: loss {record['loss']:.4f} after {record['steps']} steps, "
             f"{record['seconds']:.1f} s{near}")  # fmt: skip
    say(options, f"{options.store}: {len(model.memory)} edits, median threshold {model.threshold.median:.3f}")
    write_json(options, results)


def _ask(options: argparse.Namespace) -> None:
    model = _open(options, read_only=True)
    texts = model.ask(options.questions, max_new_tokens=options.max_new_tokens)
    rows = []
    for question, answer in zip(options.questions, texts, strict=True):
        rows.append({"question": question, "answer": answer, **model.route(question)})
        used = rows[-1]["edit"]
        say(options, f"{question}\n  {answer.strip()}\n  ({'base model' if used is None else f'edit {used}'}, "
             f"overlap {rows[-1]['overlap']:.2f}, threshold {rows[-1]['threshold']:.2f})")  # fmt: skip
    write_json(options, rows)


def _eval(options: argparse.Namespace) -> None:
    from ..evaluation.facts import load_facts
    from ..evaluation.protocol import evaluate

    facts = load_facts(options.edits, options.count)
    result = evaluate(_open(options), facts)
    free = result["free_generation"]
    say(options, f"{'':>16} teacher-forced  free generation")
    for name in ("reliability", "generalization", "locality"):
        say(options, f"{name:>16} {result[name]:14.3f} {free[name]:16.3f}")
    say(
        options,
        f"{result['count']} edits, {result['seconds_per_edit']:.2f} s an edit, median threshold {result['threshold']:.3f}",
    )
    write_json(options, {"edits": options.edits, "model": options.model, **result})


def _calibrate(options: argparse.Namespace) -> None:
    from ..evaluation.facts import load_facts
    from ..evaluation.protocol import overlap_report
    from ..store import is_store

    if not is_store(options.store):
        raise ValueError(f"--store {options.store}: there is no store in this folder; `memoir-fast edit` makes one")
    model = _open(options)
    threshold = model.calibrate(options.rate)
    related = [f.rephrase for f in load_facts(options.related) if f.rephrase] if options.related else None
    report = {"threshold": threshold, **overlap_report(model, related)}
    for name in ("unrelated", "related"):
        quantiles = "  ".join(f"{q}: {v:.3f}" for q, v in report[name]["quantiles"].items())
        say(options, f"{name:>10} prompts ({report[name]['count']}): {quantiles}")
    say(options, f"median threshold {threshold:.4f}: {report['false_activation_rate']:.3f} of unrelated prompts and "
         f"{report['related_activation_rate']:.3f} of related ones read the memory")  # fmt: skip
    model.close()
    write_json(options, report)


def _demo(options: argparse.Namespace) -> None:
    from ..evaluation.demo import run_demo

    model = _open(options)
    write_json(options, run_demo(model, lambda text: say(options, text)))
