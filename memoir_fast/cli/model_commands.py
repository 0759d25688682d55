"""The commands that measure and calibrate: eval, calibrate, demo."""

from __future__ import annotations

import argparse
from typing import Any

from .model_options import model_options, open_model
from .parsers import Command, Commands, count
from .terminal import say, write_json


def add(commands: Commands, command: Command) -> None:
    """Add the commands to the parser. command: `app.command`."""
    evaluate = command(commands, "eval", _eval, "edit a stream of facts and measure the result")
    model_options(evaluate)
    evaluate.add_argument(
        "--edits", metavar="FILE", required=True, help="JSONL: prompt, target[_new], rephrase_prompt, ..."
    )
    evaluate.add_argument("--count", type=count, metavar="N", help="only the first N lines of FILE (default: all)")

    calibrate = command(
        commands, "calibrate", _calibrate, "set the edits' thresholds for a wanted false-activation rate"
    )
    model_options(calibrate, store=True)
    calibrate.add_argument(
        "--rate",
        type=float,
        help="largest chance that an unrelated prompt reads the memory (default: the store's, and 0.005 for a new one)",
    )
    calibrate.add_argument(
        "--related",
        metavar="FILE",
        help="JSONL with rephrasings of stored edits (rephrase[_prompt]), to say how many of them read the memory (default: none)",
    )
    calibrate.add_argument(
        "--plot",
        metavar="FILE",
        help="draw what other thresholds would cost and bring (.svg, .png, .pdf; needs matplotlib; default: do not)",
    )

    demo = command(commands, "demo", _demo, "edit twenty shipped facts and show the answers before and after")
    model_options(demo)


def _eval(options: argparse.Namespace) -> None:
    from ..evaluation.facts import load_facts
    from ..evaluation.protocol import evaluate

    facts = load_facts(options.edits, options.count)
    result = evaluate(open_model(options), facts)
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
    model = open_model(options)
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

    model = open_model(options)
    write_json(options, run_demo(model, lambda text: say(options, text)))
