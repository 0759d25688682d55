"""`memoir-fast serve`: from a store to a running OpenAI-compatible server."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from ..serving.serve import REQUEST_LOG, check_vllm, server_command
from .parsers import Command, Commands
from .terminal import say, told, write_json


def add(commands: Commands, command: Command) -> None:
    """Add the commands to the parser. command: `app.command`; `export` itself is the store's, with `--target vllm`."""
    serve = command(commands, "serve", _serve, "serve an edited model with vLLM's OpenAI server")
    serve.add_argument(
        "--store", metavar="DIR", required=True, help="folder of the store, or of its copy with --follow"
    )
    serve.add_argument("--follow", metavar="URL", help="serve a copy of the store of this editing service, and follow it; a key with the role "
                       "read is taken from the variable MEMOIR_FAST_FOLLOW_KEY (default: the store is the folder's own)")  # fmt: skip
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
    editing = serve.add_argument_group("editing over HTTP beside it (`memoir-fast edit-server` has more options)")
    editing.add_argument(
        "--edit-port", type=int, metavar="N", help="also start the editing service, on this port (default: no service)"
    )
    editing.add_argument("--edit-host", default="127.0.0.1", help="address on which it listens (%(default)s)")
    editing.add_argument(
        "--edit-keys", metavar="FILE", help="who may do what there (default: the variable MEMOIR_FAST_EDIT_KEYS)"
    )
    editing.add_argument(
        "--edit-device", metavar="DEVICE", help="where its copy of the model goes, such as cpu or cuda:1 (default: cpu)"
    )
    editing.add_argument("--edit-page", action="store_true", help="with the reviewers' page, at /memoir")
    editing.add_argument(
        "--edit-review", action="store_true", help="every edit and every change waits until somebody else approves it"
    )
    serve.add_argument("vllm", nargs="*", metavar="-- VLLM ARGUMENT", help="handed to vLLM's server as they are")


def _serve(options: argparse.Namespace) -> None:
    from ..serving.beside import edit_server, follower, vllm_key
    from ..serving.export import export_vllm
    from ..store import Store

    check_vllm()
    beside: list[str] | None = None
    if options.follow:
        beside = follower(options)
        _copy(options)
    elif options.edit_port is not None:
        beside = edit_server(options)
    command = server_command(options)  # it asks the store, which is there by now
    folder = Path(command[command.index("--model") + 1])
    told(options, Store(options.store)).close()
    export_vllm(options.store, options.model, folder)
    say(options, f"{folder}: exported; starting vLLM")
    write_json(
        options,
        {
            "folder": str(folder),
            "command": command,
            "edit_server": None if options.follow else beside,
            "follower": beside if options.follow else None,
        },
    )
    sys.stdout.flush()
    if options.request_log:
        os.environ[REQUEST_LOG] = options.request_log
    if beside is not None:
        key = vllm_key(options.vllm)
        subprocess.Popen(beside, env={**os.environ, **({} if key is None else {"VLLM_API_KEY": key})})
    os.execv(command[0], command)


def _copy(options: argparse.Namespace) -> None:
    """Make the copy, or bring it up to date, before it is exported."""
    from ..serving.following import Follower
    from .follow_command import caught_up, origin_of

    with Follower(origin_of(options.follow), Path(options.store)) as following:
        caught_up(options, following, options.follow)
