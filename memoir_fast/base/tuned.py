"""Settings that `memoir-fast tune` chose for a model, in a JSON file.

It is in the user's cache, named by the model's fingerprint, or where the user wants it. A file is valid for one base
model, asked in one way (chat or plain) and edited by one update rule, because its settings were measured that way.
Settings that the user chose take precedence over a file's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..config import MemoirConfig
from ..errors import quoted
from .causal_lm import CausalLM
from .files import read_named, replace
from .fingerprint import differences, digest, identity
from .json_text import parse
from .loading import cache_folder

FORMAT = 1
OFF = "off"
_LONGEST = 16 << 20  # bytes of a file of settings
TUNABLE = ("layer", "contexts", "edit_lr")  # all of them None where the user left them open


def measured_by(tokenizer: Any, config: MemoirConfig) -> dict[str, Any]:
    """The settings that a choice depends on: "chat_template", whether prompts are chats, and "write", the update
    rule."""
    has = config.question_template or bool(getattr(tokenizer, "chat_template", None))
    chat = has if config.chat_template is None else config.chat_template
    return {"chat_template": chat, "write": config.write}


def place_of(model: dict[str, Any], measured: dict[str, Any]) -> Path:
    """The default file of a model's choice. model: its `identity`; measured: see `measured_by`."""
    way = "chat" if measured["chat_template"] else "plain"
    return cache_folder() / "tuned" / f"{digest(model)}-{way}-{measured['write']}.json"


def save(path: Path, model: dict[str, Any], measured: dict[str, Any], settings: dict[str, Any], rows: list) -> None:
    """Write a choice, completely or not at all. settings: those of `TUNABLE`; rows: the measurements, as JSON. Raises
    OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = {"format": FORMAT, "fingerprint": model, "measured": measured, "settings": settings, "rows": rows}
    replace(path, (json.dumps(made, indent=2) + "\n").encode())


def looked_up(config: MemoirConfig, model: CausalLM, tokenizer: Any) -> MemoirConfig:
    """The settings; if the user left `tuned` open and the cache has a file for this model, `tuned` names that file."""
    if config.tuned is not None or not any((cache_folder() / "tuned").glob("*.json")):
        return config
    path = place_of(identity(model, tokenizer, config.layer), measured_by(tokenizer, config))
    return config.updated(tuned=str(path)) if path.is_file() else config


def applied(config: MemoirConfig, model: CausalLM, tokenizer: Any) -> MemoirConfig:
    """The settings, with those left open taken from the `tuned` file; `tuned` becomes the file's name without its
    folder.

    Raises:
        ValueError: there is no such file, it is malformed, or it is for another model or another way of asking or
            editing.
    """
    if config.tuned is None or config.tuned == OFF:
        return config
    path = Path(config.tuned)
    found = _read(path)
    others = differences(found["fingerprint"], identity(model, tokenizer, config.layer))
    if others:
        raise ValueError(
            f"tuned: {path} was made for another model (they differ in {', '.join(others)}): "
            f"run `memoir-fast tune` with this one, or take the defaults with tuned={OFF!r}"
        )
    present = measured_by(tokenizer, config)
    if found["measured"] != present:
        raise ValueError(
            f"tuned: {path} was measured with {quoted(found['measured'])}, this memory has {present}: run `memoir-fast tune` with "
            f"these settings, or take the defaults with tuned={OFF!r}"
        )
    taken = {name: value for name, value in found["settings"].items() if getattr(config, name) is None}
    return config.updated(**taken, tuned=path.name)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = parse(read_named(path, "tuned", _LONGEST), f"tuned: {path}")
    except OSError as error:
        raise ValueError(
            f"tuned: cannot read {str(path)!r} ({error.strerror}): give a file of `memoir-fast tune`, or {OFF!r}"
        ) from None
    except ValueError as error:
        raise ValueError(f"{error}: give a file of `memoir-fast tune`, or {OFF!r}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"tuned: {path} is not a file of `memoir-fast tune` in format {FORMAT}: run it again")
    parts = [found.get(name) for name in ("fingerprint", "measured", "settings")]
    if not all(isinstance(part, dict) for part in parts) or not set(found["settings"]) <= set(TUNABLE):
        raise ValueError(
            f"tuned: {path} is damaged (its settings may be {', '.join(TUNABLE)}): run `memoir-fast tune` again"
        )
    return found
