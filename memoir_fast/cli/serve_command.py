"""`memoir-fast serve`: from a store to a running OpenAI-compatible server."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..serving.serve import REQUEST_LOG, check_vllm, server_command
from .parsers import Command, Commands
from .terminal import say, told, write_json


def add(commands: Commands, command: Command) -> None:
    """Add the commands to the parser. command: `app.command`; `export` itself is the store's, with `--target vllm`."""
    serve = command(commands, "serve", _serve, "serve an edited model with vLLM's OpenAI server")
    serve.add_argument("--store", metavar="DIR", required=True, help="folder of the store")
    serve.add_argument(
        "--model", default="smollm2", help="the base model: smollm2, a hub id, a folder or a .gguf file (%(default)s)"
    )
    serve.add_argument(
        "--to", metavar="FOLDER", help="where the exported checkpoint lies (default: the store's path with -vllm)"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="port to listen on (%(default)s)")
    serve.add_argument(
        "--max-model-len", type=int, default=2048, help="longest prompt and answer in tokens (%(default)s)"
    )
    serve.add_argument("--served-model-name", help="the name in requests (default: the base model's)")
    serve.add_argument(
        "--request-log",
        metavar="FILE",
        help="append a JSON line for each request, with the edit that it read and without any of its text (- for standard output)",
    )
    serve.add_argument("vllm", nargs="*", metavar="-- VLLM ARGUMENT", help="handed to vLLM's server as they are")


def _serve(options: argparse.Namespace) -> None:
    from ..serving.export import export_vllm
    from ..store import Store

    check_vllm()
    command = server_command(options)
    folder = Path(command[command.index("--model") + 1])
    told(options, Store(options.store)).close()
    export_vllm(options.store, options.model, folder)
    say(options, f"{folder}: exported; starting vLLM")
    write_json(options, {"folder": str(folder), "command": command})
    sys.stdout.flush()
    if options.request_log:
        os.environ[REQUEST_LOG] = options.request_log
    os.execv(command[0], command)
