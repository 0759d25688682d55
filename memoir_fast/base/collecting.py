"""Python's garbage collector, put off while many objects are made that all stay."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """Collect no garbage inside. Making a hundred thousand objects has the collector look at all of them again and again: the records of 15,000
    edits were read in half the time without."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
