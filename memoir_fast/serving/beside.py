"""What `memoir-fast serve` starts beside vLLM, as a process of its own: an editing service, or what follows one elsewhere."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .editing.keys import load_keys
from .editing.run import check_installed

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where a server that listens everywhere is found on its own machine
_KEY = "--api-key"


def edit_server(options: argparse.Namespace) -> list[str]:
    """The command of the service, which ends when this process does, and what it becomes.

    Args:
        options: of `memoir-fast serve`.

    Raises:
        ImportError: the packages of the extra `serve` are missing. ValueError: there are no keys, or both servers want one port.
    """
    check_installed()
    load_keys(options.edit_keys)
    if options.edit_port == options.port:
        raise ValueError(f"--edit-port: vLLM listens on port {options.port}: give another one")
    flags = ["--page"] * options.edit_page + ["--review"] * options.edit_review
    keys = ["--keys", str(options.edit_keys)] if options.edit_keys else []
    return [sys.executable, "-m", "memoir_fast.cli", "edit-server", "--store", str(options.store), "--model", options.model,
            "--device", options.edit_device or "cpu", "--host", options.edit_host, "--port", str(options.edit_port), "--vllm-url", _url(options),
            "--parent", str(os.getpid()), *keys, *flags]  # fmt: skip


def follower(options: argparse.Namespace) -> list[str]:
    """The command of the process that follows an editing service elsewhere, and ends when this process does, and what it becomes.

    Args:
        options: of `memoir-fast serve`.

    Raises:
        ValueError: a service is to edit the copy.
    """
    if options.edit_port is not None:
        raise ValueError("--edit-port: a store that follows another one is not edited here: leave it out, or --follow")
    return [sys.executable, "-m", "memoir_fast.cli", "follow", "--url", options.follow, "--store", str(options.store), "--vllm-url", _url(options),
            "--parent", str(os.getpid())]  # fmt: skip


def _url(options: argparse.Namespace) -> str:
    """Where vLLM is found on its own machine."""
    host = _ANY.get(options.host, options.host)
    return f"http://[{host}]:{options.port}" if ":" in host else f"http://{host}:{options.port}"


def vllm_key(arguments: Sequence[str]) -> str | None:
    """The first API key among vLLM's arguments, None for none."""
    for place, word in enumerate(arguments):
        if word.startswith(f"{_KEY}="):
            return word.removeprefix(f"{_KEY}=")
        if word == _KEY and place + 1 < len(arguments):
            return arguments[place + 1]
    return None
