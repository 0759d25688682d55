"""Runs the service's application in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uvicorn

    from .gate import Gate

_NEEDED = ("fastapi", "uvicorn", "jinja2")
_GRACE = 10  # seconds for requests that run when the service is told to end
_LOOK = 0.5  # seconds between two looks at the parent process
_MOST_AT_ONCE = 512  # connections


def check_installed() -> None:
    """Raise ImportError unless the packages of the extra `serve` are there."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"the editing service needs {' and '.join(missing)}: pip install 'memoir-fast[serve]'")


def run(app: Gate, host: str, port: int, parent: int | None = None) -> None:
    """Answer requests until the process is told to end.

    Args:
        app: the application. host, port: to listen on. parent: the process that started this one, with
            which it ends; None to go on without it.

    Raises:
        OSError: the address cannot be listened on.
    """
    import uvicorn

    config = uvicorn.Config(app, host=host, port=port, access_log=False, log_level="warning", limit_concurrency=_MOST_AT_ONCE,
                            timeout_graceful_shutdown=_GRACE, server_header=False)  # fmt: skip
    server = uvicorn.Server(config)
    if parent is not None:
        threading.Thread(target=_follow, args=(server, parent), daemon=True).start()
    try:
        server.run()
    except SystemExit:
        raise OSError(f"{host}:{port} cannot be listened on: give another --host or --port") from None


def _follow(server: uvicorn.Server, parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK)
    server.should_exit = True
