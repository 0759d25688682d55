"""The one thread that uses the model: what people wait for comes first, then the queue."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any, TypeVar

from .refused import Refused

_LOG = logging.getLogger("memoir_fast.editing")
_MOST = 64  # calls that wait for the thread
_PAUSE = 5.0  # seconds after which the queue is tried again where the store could not be written
T = TypeVar("T")


class Worker:
    """Runs calls one at a time, and between them one step of the queue after the other.

    Args:
        step: makes the next edit of the queue; returns whether there was one. Its errors are the store's or bugs: the queue is tried again
            after a pause.

    Attributes:
        trouble: why the queue stands still, "" if it does not.
    """

    def __init__(self, step: Callable[[], bool]):
        self._step, self._changed = step, threading.Condition()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._awake, self._stopped = True, False
        self.trouble = ""
        self._thread = threading.Thread(target=self._run, name="memoir-editor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run a function in the thread, before the queue goes on. Raises Refused where too many wait already, or the service is ending."""
        done: Future[T] = Future()
        with self._changed:
            if self._stopped:
                raise Refused(503, "the service is ending: ask again once it runs", wait=10)
            if len(self._calls) >= _MOST:
                raise Refused(503, f"{_MOST} requests wait for the model: ask again later", wait=5)
            self._calls.append((function, done))
            self._changed.notify_all()
        return done

    def wake(self) -> None:
        """Say that there is something new in the queue."""
        with self._changed:
            self._awake = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let what runs come to its end, and run nothing more: calls that wait are refused, the queue stays for the next start."""
        with self._changed:
            self._stopped = True
            left, self._calls = list(self._calls), deque()
            self._changed.notify_all()
        for _, done in left:
            with contextlib.suppress(InvalidStateError):
                done.set_exception(Refused(503, "the service is ending: ask again once it runs", wait=10))
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                pause = _PAUSE if self.trouble else None
                self._changed.wait_for(lambda: self._stopped or bool(self._calls) or self._awake, pause)
                if self._stopped:
                    return
                function, done = self._calls.popleft() if self._calls else (None, None)
                if function is None:
                    self._awake = False  # what comes while the step runs wakes it again
            if function is not None and done is not None:
                _do(function, done)
                continue
            try:
                more = self._step()
                self.trouble = ""
            except Exception as error:
                why, more = str(error) or type(error).__name__, False
                if why != self.trouble:  # said once, not at each try
                    _LOG.exception("the queue stands still, and is tried again each %s seconds", _PAUSE)
                self.trouble = why
            if more:
                self.wake()


def _do(function: Callable[[], Any], done: Future[Any]) -> None:
    if not done.set_running_or_notify_cancel():  # whoever asked has left
        return
    try:
        done.set_result(function())
    except BaseException as error:
        done.set_exception(error)
