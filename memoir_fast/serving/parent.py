"""Processes beside a server end with it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

_LOOK = 0.5  # seconds between two looks at the parent process


def ends_with(parent: int, stop: Callable[[], None]) -> None:
    """Call `stop`, in a thread of its own, once the process that started this one has ended. parent: its number."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        stop()

    threading.Thread(target=look, daemon=True).start()
