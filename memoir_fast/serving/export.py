"""A checkpoint folder that vLLM serves with the memory: the base model's files, `memoir.safetensors`, and a `config.json` that names
an architecture of this package's plugin, so that an engine without the plugin refuses the folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..base import files
from ..base import fingerprint as fingerprints
from ..base.json_text import parse
from ..base.loading import checkpoint_folder
from ..errors import brief
from ..store import Store
from ..text.templates import with_questions
from .place import beside
from .section import FORMAT, section_of
from .tables import PREFIX, tables_of

TENSORS = "memoir.safetensors"
# Architectures whose vLLM class is wrapped; the plugin registers "Memoir" + each.
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
_INDEX = "model.safetensors.index.json"
_TEMPLATE = "chat_template.jinja"  # a tokenizer's folder has its chat template in this file, or in its configuration
_LONGEST = 64 << 20  # bytes of a `config.json`


def export_vllm(store: str | Path, model: str, to: str | Path, copy: bool = False) -> Path:
    """Write the checkpoint folder of an edited model.

    Args:
        store: the store's folder (its path is kept, for refreshing); model: the base model's name, see `base.loading.load_model`.
        to: the folder to make; an earlier export there is replaced.
        copy: copy the base model's files instead of linking them.

    Raises:
        ValueError: the store belongs to another model, the architecture or the feature is not served, or `to` holds something else or cannot
            be made or replaced. OSError: a file cannot be read or written.
    """
    to, source = Path(to), checkpoint_folder(model)
    config = json.loads((source / "config.json").read_text("utf-8"))
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture not in ARCHITECTURES:
        raise ValueError(f"model: {model} is a {architecture}; vLLM export takes {', '.join(ARCHITECTURES)}")
    with Store(store) as opened:
        stored = opened.manifest.fingerprint
        fingerprints.check(stored, fingerprints.of_folder(source, stored))
        tensors, section = tables_of(opened), section_of(opened, store)
        template = _template(source) if opened.manifest.config.question_template else None
    if not stored["target"].endswith(".mlp.down_proj"):
        raise ValueError(f"store: it edits {stored['target']}; vLLM export takes a down projection (*.mlp.down_proj)")
    config["architectures"] = ["Memoir" + architecture]
    config["memoir"] = section
    with beside(to, is_export, "to", "no earlier export") as folder:
        _write(folder, source, config, tensors, copy)
        if template is not None:
            (folder / _TEMPLATE).unlink(missing_ok=True)  # a link to the base model's
            (folder / _TEMPLATE).write_text(template, "utf-8")
    return to


def _template(source: Path) -> str:
    """The template that a store with `question_template` puts prompts into, for the tokenizer in a folder."""
    from transformers import AutoTokenizer

    return str(with_questions(AutoTokenizer.from_pretrained(source)).chat_template)


def _write(to: Path, source: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor], copy: bool) -> None:
    for path in source.iterdir():
        if path.is_file() and path.name not in ("config.json", _INDEX):
            if copy:
                shutil.copy2(path, to / path.name)
            else:
                (to / path.name).symlink_to(path.resolve())
    if (source / _INDEX).is_file():  # a checkpoint in parts lists its tensors' files: the memory's must be listed too
        index = json.loads((source / _INDEX).read_text("utf-8"))
        index["weight_map"].update(dict.fromkeys(tensors, TENSORS))
        (to / _INDEX).write_text(json.dumps(index, indent=1))
    (to / TENSORS).write_bytes(save(tensors, metadata={"format": "pt"}))
    (to / "config.json").write_text(json.dumps(config, indent=2))


def is_export(folder: str | Path) -> bool:
    """Whether a folder was written by `export_vllm`."""
    try:
        return _described(Path(folder))["memoir"]["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _described(folder: Path) -> Any:
    """A checkpoint's `config.json`. Raises ValueError where there is none, or none that can be read."""
    path = folder / "config.json"
    return parse(files.read(path, _LONGEST, follow=True), str(path))


def edits_of(folder: str | Path) -> set[int] | None:
    """The ids of an export's edits; None where `folder` is no local folder (a hub id). Raises ValueError where its tensors are damaged."""
    path = Path(folder) / TENSORS
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as tensors:
            ids = tensors.get_tensor(PREFIX + "ids")
    except (SafetensorError, MemoryError) as error:  # the latter where a file is longer than what may be mapped
        raise ValueError(f"{path}: not the tensors of an export ({brief(error)}): export the store again") from None
    if ids.dtype != torch.int64 or ids.dim() != 1:
        raise ValueError(
            f"{path}: its ids are {tuple(ids.shape)} {ids.dtype}, expected a list of int64: export the store again"
        )
    return set(ids.tolist())
