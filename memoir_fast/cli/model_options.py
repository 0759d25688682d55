"""The options of the commands that load the base model, and the model that they describe."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..config import MemoirConfig, help_of
from .parsers import json_value
from .terminal import say, told

if TYPE_CHECKING:
    from ..model import MemoirModel


def model_options(parser: argparse.ArgumentParser, store: bool = False) -> None:
    """Add the options of a command that loads the base model; store: and `--store`."""
    parser.add_argument("--model", default="smollm2", help="smollm2, a hub id, a folder or a .gguf file (%(default)s)")
    base = parser.add_argument_group("how the base model is loaded")
    base.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16", "float16", "auto"),
        help="dtype of its weights; auto takes the checkpoint's (%(default)s)",
    )
    base.add_argument("--device", help="where it goes, such as cpu or cuda:1 (default: the GPU where there is one)")
    base.add_argument(
        "--device-map",
        type=_json_or_text,
        metavar="MAP",
        help="accelerate's, for several devices: auto, or a JSON object (default: none)",
    )
    base.add_argument("--quantization-config", type=json_value, metavar="JSON", help='transformers\', such as {"quant_method": '
                      '"bitsandbytes", "load_in_4bit": true} (default: none)')  # fmt: skip
    base.add_argument("--revision", help="of a hub id (default: its main one)")
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
            settings.add_argument(flag, type=json_value, metavar="JSON", help=text)
        elif field.metadata["choices"]:
            settings.add_argument(flag, choices=field.metadata["choices"], help=text)
        else:
            kind = _layer if field.name == "layer" else kind
            settings.add_argument(flag, type=kind, metavar=field.name.upper(), help=text)


def new_store_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that only a store that is made takes, and keeps."""
    parser.add_argument("--conflict", choices=("supersede", "keep", "reject"), help="for a new store: what a new edit does to a stored one "
                        "that asks the same with another target (default: supersede)")  # fmt: skip
    parser.add_argument("--record-dtype", choices=("float32", "bfloat16"), help="for a new store: dtype of the edits' updates in its log; "
                        "bfloat16 halves the log, and the memory is made from the rounded values (default: float32)")  # fmt: skip


def _json_or_text(text: str) -> object:
    return json_value(text) if text.startswith("{") else text


def _layer(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


def open_model(options: argparse.Namespace, read_only: bool = False, kept: bool = True) -> MemoirModel:
    """The edited model that the options describe, with its store where the command has one; kept: False for a memory without one."""
    from transformers.utils import logging

    from ..base.loading import OPTIONS
    from ..model import MemoirModel
    from ..store import is_store

    folder = getattr(options, "store", None) if kept else None
    if read_only and (folder is None or not is_store(folder)):
        raise ValueError(f"--store {folder}: there is no store in this folder; `memoir-fast edit` makes one")
    logging.disable_progress_bar()  # transformers' own bars; ours stay
    model = MemoirModel.from_pretrained(
        options.model,
        store=folder,
        read_only=read_only,
        background=options.background,
        conflict=getattr(options, "conflict", None),
        record_dtype=getattr(options, "record_dtype", None),
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
