"""Runs the service's application in a process of its own."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from ..parent import ends_with

if TYPE_CHECKING:
    from .gate import Gate

_NEEDED = ("fastapi", "uvicorn", "jinja2")
_GRACE = 10  # seconds for requests that run when the service is told to end
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
        ends_with(parent, lambda: setattr(server, "should_exit", True))
    try:
        server.run()
    except SystemExit:
        raise OSError(f"{host}:{port} cannot be listened on: give another --host or --port") from None
