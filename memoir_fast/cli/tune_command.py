"""`memoir-fast tune`: the settings that serve a model, found on a few facts and kept for later commands."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..config import MemoirConfig
from .model_options import model_options, settings_of
from .parsers import Command, Commands
from .terminal import say, write_json

if TYPE_CHECKING:
    from ..evaluation.tuning import Candidate


def add(commands: Commands, command: Command) -> None:
    """Add the command to the parser. command: `app.command`."""
    tune = command(commands, "tune", _tune, "find layer and contexts for a model on a few facts, and keep the choice")
    model_options(tune)
    tune.add_argument(
        "--facts",
        metavar="FILE",
        help="JSONL with prompt, target, rephrase and unrelated (default: eight shipped ones)",
    )
    tune.add_argument(
        "--layers", type=int, nargs="+", metavar="N", help="layers to try (default: five around the usual one)"
    )
    tune.add_argument(
        "--context-counts",
        type=int,
        nargs="+",
        metavar="N",
        help="numbers of contexts to try (default: 0 3, plain text: 10 too)",
    )
    tune.add_argument(
        "--output", metavar="TUNED", help="keep the choice in this file, for --tuned (default: in the user's cache)"
    )


def _tune(options: argparse.Namespace) -> None:
    from transformers.utils import logging

    from ..base.loading import load_model
    from ..editing.update_rule import rule_of
    from ..evaluation.facts import load_facts
    from ..evaluation.tuning import tune

    logging.disable_progress_bar()

    def told(row: Candidate) -> None:
        shown = " ".join(f"{row.settings.get(name, ''):>8}" for name in names)
        scores = f"{row.reliability:11.3f} {row.generalization:14.3f} {row.locality:8.3f} {row.steps:5.1f} {row.seconds:7.2f}"
        say(options, f"{shown} {row.failed or scores}")

    facts = load_facts(options.facts) if options.facts else None
    config = MemoirConfig(**settings_of(options))
    model, tokenizer = load_model(options.model, options.dtype)
    names = ["layer", "contexts", *(["edit_lr"] if config.edit_lr or not rule_of(config).adapts else [])]
    say(options, " ".join(f"{name:>8}" for name in names) + " reliability generalization locality steps seconds")
    found = tune(model, tokenizer, config, facts, options.layers, options.context_counts, options.background, told)
    place = found.save(options.output)
    chosen = ", ".join(f"{name} {value}" for name, value in found.settings.items())
    used = (
        f"--tuned {place}"
        if options.output
        else "edit, eval and demo take it for this model; --tuned off takes the defaults"
    )
    say(options, f"chosen: {chosen}; kept in {place} ({used})")
    write_json(options, {"file": str(place), "settings": found.settings, "rows": [asdict(row) for row in found.rows]})
