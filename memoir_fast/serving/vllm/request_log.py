"""A log of requests for programs: one JSON object a line, without any text of prompts or answers."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from ..serve import REQUEST_LOG

_LOG = logging.getLogger("vllm.memoir_fast")


class RequestLog:
    """Appends lines to a file, or writes them to standard output.

    Args:
        path: the file's, or "-".

    Raises:
        ValueError: the file cannot be written.
    """

    def __init__(self, path: str):
        self.path, self._failed = path, False
        try:
            # Each line is one write at the end of the file, so that the lines of several processes do not mix.
            self._file = (
                sys.stdout.fileno()
                if path == "-"
                else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            )
        except OSError as error:
            raise ValueError(f"{REQUEST_LOG}: {path} cannot be written ({error.strerror}): give another file, or - for standard output") from None  # fmt: skip

    @classmethod
    def of_environment(cls) -> RequestLog | None:
        """The log that `MEMOIR_FAST_REQUEST_LOG` asks for; None without it."""
        path = os.environ.get(REQUEST_LOG)
        return cls(path) if path else None

    def write(self, line: dict[str, Any]) -> None:
        """One more line. Where that fails the request is answered all the same, and the server's own log says so, once."""
        try:
            os.write(self._file, json.dumps(line).encode() + b"\n")
            self._failed = False
        except OSError as error:
            if not self._failed:
                _LOG.error("requests are not logged to %s: %s", self.path, error)
            self._failed = True
