"""Nothing may hang: an alarm that turns waiting into a failure."""

from __future__ import annotations

import contextlib
import signal


@contextlib.contextmanager
def within(seconds: int = 20):
    """Fail where the block takes longer (in the main thread)."""

    def late(*_):
        raise AssertionError(f"it took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
