"""The commands that load the base model: edit, ask, eval, calibrate, demo."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from ..config import MemoirConfig, help_of
from .parsers import Command, Commands
from .terminal import say, told, write_json

if TYPE_CHECKING:
    from ..model import EditResult, MemoirModel


def add(commands: Commands, command: Command) -> None:
    """Add the commands to the parser. command: `app.command`."""
    edit = command(commands, "edit", _edit, "teach facts; the memory is kept in --store")
    model_options(edit, store=True)
    edit.add_argument("--author", default="", help="kept with the edits")
    edit.add_argument("--tags", nargs="+", default=[], metavar="TAG", help="kept with the edits, to choose them by")
    edit.add_argument("--prompt", help="what will be asked")
    edit.add_argument("--target", help="the answer")
    edit.add_argument("--rephrasings", nargs="+", default=[], metavar="TEXT", help="further wordings of the prompt")
    edit.add_argument(
        "--not-prompts", nargs="+", default=[], metavar="TEXT", help="prompts that must not read the edit"
    )
    edit.add_argument("--subject", default="", help="words that a question must hold to read the edit")
    edit.add_argument(
        "--key", default="", help="your own name for the fact: a later edit with it takes this one's place"
    )
    edit.add_argument("--conflict", choices=("supersede", "keep", "reject"), help="for a new store: what a new edit does to a stored one "
                      "that asks the same with another target (supersede)")  # fmt: skip
    edit.add_argument("--edits", metavar="FILE", help="JSONL with prompt and target (or target_new) on each line, and if you like "
                      "rephrasings, not_prompts, subject, key")  # fmt: skip
    edit.add_argument("--count", type=int, help="only the first COUNT lines of FILE")

    edit.add_argument("--verify", action=argparse.BooleanOptionalAction, default=True, help="ask each prompt and its rephrasings once it "
                      "is made, and say where the answer is not the target")  # fmt: skip

    ask = command(commands, "ask", _ask, "answer questions with the edited model")
    model_options(ask, store=True)
    ask.add_argument("questions", nargs="+", metavar="QUESTION")
    ask.add_argument("--max-new-tokens", type=int, default=32)

    route = command(commands, "route", _route, "which edit a question would read, and why")
    model_options(route, store=True)
    route.add_argument("questions", nargs="+", metavar="QUESTION")
    route.add_argument("--top", type=int, default=5, help="most candidates to show (%(default)s)")

    evaluate = command(commands, "eval", _eval, "edit a stream of facts and measure the result")
    model_options(evaluate)
    evaluate.add_argument(
        "--edits", metavar="FILE", required=True, help="JSONL: prompt, target[_new], rephrase_prompt, ..."
    )
    evaluate.add_argument("--count", type=int, help="only the first COUNT lines of FILE")

    calibrate = command(
        commands, "calibrate", _calibrate, "set the edits' thresholds for a wanted false-activation rate"
    )
    model_options(calibrate, store=True)
    calibrate.add_argument(
        "--rate", type=float, help="largest chance that an unrelated prompt reads the memory (0.005)"
    )
    calibrate.add_argument(
        "--related", metavar="FILE", help="JSONL with rephrasings of stored edits (rephrase[_prompt])"
    )
    calibrate.add_argument(
        "--plot",
        metavar="FILE",
        help="draw what other thresholds would cost and bring (.svg, .png, .pdf; needs matplotlib)",
    )

    demo = command(commands, "demo", _demo, "edit twenty shipped facts and show the answers before and after")
    model_options(demo)


def model_options(parser: argparse.ArgumentParser, store: bool = False) -> None:
    parser.add_argument("--model", default="smollm2", help="smollm2, a hub id, a folder or a .gguf file (%(default)s)")
    base = parser.add_argument_group("how the base model is loaded")
    base.add_argument(
        "--dtype", default="float32", help="dtype of its weights: float32, bfloat16, float16 or auto (%(default)s)"
    )
    base.add_argument("--device", help="where it goes, such as cpu or cuda:1 (default: the GPU where there is one)")
    base.add_argument(
        "--device-map",
        type=_json_or_text,
        metavar="MAP",
        help="accelerate's, for several devices: auto, or a JSON object",
    )
    base.add_argument("--quantization-config", type=json.loads, metavar="JSON", help='transformers\', such as {"quant_method": '
                      '"bitsandbytes", "load_in_4bit": true}')  # fmt: skip
    base.add_argument("--revision", help="of a hub id")
    base.add_argument("--trust-remote-code", action="store_true", help="run the code that a checkpoint brings along")
    base.add_argument("--token", help="for a private hub id; better leave it to the hub's own login")
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


def _json_or_text(text: str) -> object:
    return json.loads(text) if text.startswith("{") else text


def _layer(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


def _open(options: argparse.Namespace, read_only: bool = False) -> MemoirModel:
    """The edited model that the options describe, with its store where the command has one."""
    from transformers.utils import logging

    from ..base.loading import OPTIONS
    from ..model import MemoirModel
    from ..store import is_store

    folder = getattr(options, "store", None)
    if read_only and (folder is None or not is_store(folder)):
        raise ValueError(f"--store {folder}: there is no store in this folder; `memoir-fast edit` makes one")
    logging.disable_progress_bar()  # transformers' own bars; ours stay
    model = MemoirModel.from_pretrained(
        options.model,
        store=folder,
        read_only=read_only,
        background=options.background,
        conflict=getattr(options, "conflict", None),
        **{name: getattr(options, name) for name in OPTIONS},
        **settings_of(options),
    )
    if model.store is not None:
        told(options, model.store)
    if model.config.tuned not in (None, "off") and not read_only:
        say(options, f"with the settings of {model.config.tuned} (memoir-fast tune): layer {model.target.layer}, "
            f"contexts {model.config.contexts}; --tuned off takes the defaults")  # fmt: skip
    return model


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of `MemoirConfig` that the options name."""
    return {f.name: getattr(options, f.name) for f in fields(MemoirConfig) if getattr(options, f.name) is not None}


def _edit(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from ..editing.editor import EditError
    from ..editing.request import EditRequest
    from ..evaluation.facts import load_requests

    if bool(options.edits) == bool(options.prompt or options.target):
        raise ValueError("give either --prompt and --target, or --edits FILE")
    if options.edits:
        facts = load_requests(options.edits, options.count)
    elif options.prompt and options.target:
        facts = [EditRequest(options.prompt, options.target, tuple(options.rephrasings), tuple(options.not_prompts),
                             options.subject, options.key)]  # fmt: skip
    else:
        raise ValueError("--prompt and --target go together")
    model = _open(options)
    results: list[EditResult] = []
    try:
        with tqdm(facts, desc="editing", unit="edit", disable=len(facts) == 1) as bar:
            for fact in bar:
                results += model.edit_many([fact], author=options.author, tags=options.tags, verify=options.verify)
    except EditError as error:
        raise ValueError(str(error)) from error
    finally:
        model.close()
    for number, result in enumerate(results):
        if number < 20 or result.supersedes or result.also_answers or not result.converged or result.took is False:
            _told(options, result)
    say(options, f"{options.store}: {len(model.memory)} edits, threshold {model.threshold.median:.3f}")
    write_json(options, [{**asdict(result), **model.journal.state.row(result.id)} for result in results])


def _told(options: argparse.Namespace, result: EditResult) -> None:
    """Say what an edit did, and what a person should look at."""
    if result.existing:
        say(options, f"edit {result.id}: the same fact is stored under this key already; nothing was written")
        return
    say(options, f"edit {result.id}: loss {result.loss:.4f} after {result.steps} steps, {result.seconds:.1f} s")
    if not result.converged:
        say(options, "  it did not converge: the answer may not be the target; try more --steps, or --retries 1")
    for text, answer in result.answers.items():
        if result.took is False:
            say(options, f"  {text} -> {answer}")
    if result.took is False:
        say(options, "  not every answer is the target (above)")
    elif result.took:
        say(options, f"  answered: {next(iter(result.answers.values()))}")
    if result.supersedes:
        say(options, f"  it takes the place of {', '.join(f'edit {old}' for old in result.supersedes)}")
    others = [edit for edit in result.similar if edit not in result.supersedes]
    if others:
        say(options, f"  similar: {', '.join(f'edit {edit}' for edit in others)}")
    for text in result.also_answers:
        say(options, f"  without being named in not_prompts, this would read it too: {text}")


def _ask(options: argparse.Namespace) -> None:
    model = _open(options, read_only=True)
    texts = model.ask(options.questions, max_new_tokens=options.max_new_tokens)
    rows = []
    for question, answer in zip(options.questions, texts, strict=True):
        found = model.route(question, top=1)
        rows.append({"question": question, "answer": answer, **{n: found[n] for n in ("edit", "score", "threshold")}})
        used = rows[-1]["edit"]
        say(options, f"{question}\n  {answer.strip()}\n  ({'base model' if used is None else f'edit {used}'}, "
             f"score {rows[-1]['score']:.2f}, threshold {rows[-1]['threshold']:.2f})")  # fmt: skip
    write_json(options, rows)


def _route(options: argparse.Namespace) -> None:
    model = _open(options, read_only=True)
    rows = []
    for question in options.questions:
        found = model.route(question, options.top)
        rows.append({"question": question, **found})
        read = "reads the base model" if found["edit"] is None else f"reads edit {found['edit']}"
        say(options, f"{question}\n  {read} (threshold {found['threshold']:.2f})")
        for one in found["candidates"]:
            say(options, f"  edit {one['edit']}: score {one['score']:.3f}  {model.edits[one['edit']]['prompt']}")
            for name in ("missing", "added", "kept_out"):
                if one.get(name):
                    said = one[name] if isinstance(one[name], str) else ", ".join(one[name])
                    say(options, f"    {name}: {said}")
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
        f"{result['count']} edits, {result['seconds_per_edit']:.2f} s an edit, threshold {result['threshold']:.3f}",
    )
    write_json(options, {"edits": options.edits, "model": options.model, **result})


def _calibrate(options: argparse.Namespace) -> None:
    from ..evaluation.facts import load_facts
    from ..evaluation.protocol import score_report
    from ..reading.trade_off import drawable
    from ..store import is_store

    if options.plot:
        drawable(options.plot)  # before anything is changed
    if not is_store(options.store):
        raise ValueError(f"--store {options.store}: there is no store in this folder; `memoir-fast edit` makes one")
    background, options.background = options.background, None  # of the calibration, not of a new memory
    model = _open(options)
    threshold = model.calibrate(options.rate, background)
    related = [f.rephrase for f in load_facts(options.related) if f.rephrase] if options.related else None
    report = {"threshold": threshold, **score_report(model, related)}
    for name in ("unrelated", "related"):
        quantiles = "  ".join(f"{q}: {v:.3f}" for q, v in report[name]["quantiles"].items())
        say(options, f"{name:>10} prompts ({report[name]['count']}): {quantiles}")
    say(options, f"threshold {threshold:.4f}: {report['false_activation_rate']:.3f} of unrelated prompts and "
         f"{report['related_activation_rate']:.3f} of related ones read the memory")  # fmt: skip
    if report["false_activation_bound"] is not None:
        say(options, f"promised: at most {model.config.false_activation_rate:.2%} of further prompts like the unrelated ones on average, "
            f"with 95 % confidence at most {report['false_activation_bound']:.2%}")  # fmt: skip
    if options.plot:
        report["trade_off"] = found = model.trade_off(plot=options.plot)
        _said(options, found)
    model.close()
    write_json(options, report)


def _said(options: argparse.Namespace, found: dict[str, Any]) -> None:
    """A trade-off as a table, at a few thresholds."""
    names = ("rewordings", "other_subject", "same_subject", "unrelated")
    say(options, f"{'threshold':>13} " + " ".join(f"{name:>13}" for name in names))
    rows = [(at, [found[name][line] for name in names]) for line, at in enumerate(found["thresholds"]) if line % 5 == 0]
    rows.append((found["threshold"], [found["at_threshold"][name] for name in names]))
    for at, shares in sorted(rows):
        say(options, f"{at:>13.3f} " + " ".join(f"{share:>13.3f}" for share in shares))
    say(options, f"{'prompts':>13} " + " ".join(f"{found['prompts'][name]:>13}" for name in names))
    say(
        options,
        f"{options.plot}: drawn; rewordings and near misses are of {found['generated_facts']} generated facts, not of your edits",
    )


def _demo(options: argparse.Namespace) -> None:
    from ..evaluation.demo import run_demo

    model = _open(options)
    write_json(options, run_demo(model, lambda text: say(options, text)))
