"""Tells a running vLLM of what was stored, again and again until it serves it, and anew where it was started again."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from concurrent.futures import Future, InvalidStateError

from ..client import NotAnswered
from .served import Served

_LOG = logging.getLogger("memoir_fast.editing")
_FIRST, _LONGEST = 0.1, 10.0  # seconds between two tries
_LOOK = 10.0  # seconds between two looks whether the server was started again


class Live:
    """What vLLM serves, brought up to date by a thread of its own.

    Args:
        server: vLLM's.

    Attributes:
        served: the number of the store's last record that the server has said it serves, -1 before its first word.
        trouble: why the last try failed, "" if it did not.
    """

    def __init__(self, server: Served):
        self._server = server
        self._changed = threading.Condition()
        self._wanted, self._stopped = -1, False
        self._waiting: list[tuple[int, Future[bool]]] = []
        self._generation = 0
        self.served, self.trouble = -1, "it was not asked yet"
        self._thread = threading.Thread(target=self._run, name="memoir-live", daemon=True)
        self._thread.start()

    def tell(self, seq: int) -> Future[bool]:
        """Have the server take up the store's records up to `seq`; the future ends, with True, once it says that it has."""
        done: Future[bool] = Future()
        with self._changed:
            if self.served >= seq:
                done.set_result(True)
            else:
                self._wanted = max(self._wanted, seq)
                self._waiting.append((seq, done))
                self._changed.notify_all()
        return done

    def anew(self) -> None:
        """Forget what it said it serves, and what it was to serve: the store is another one, or is read by other settings, under the same numbers.
        What waits ends with False."""
        with self._changed:
            self.served, self._wanted, self.trouble = -1, -1, "it was not asked since the store was taken anew"
        self._end(1 << 62, False)

    def close(self) -> None:
        """Stop asking; what waits ends with False."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(timeout=1)
        self._end(1 << 62, False)

    def _run(self) -> None:
        pause = _FIRST
        while not self._stopped:
            with self._changed:
                more = self._changed.wait_for(lambda: self._stopped or self._wanted > self.served, _LOOK)
                wanted = self._wanted
            try:
                if not more:
                    self._look()
                elif not self._stopped:
                    self._take(*self._server.refresh(), wanted)
                pause = _FIRST
            except NotAnswered as error:
                self._failed(str(error))
                with self._changed:  # what is stored meanwhile is told of at once
                    more = self._changed.wait_for(functools.partial(self._is_more, wanted), pause)
                pause = _FIRST if more else min(2 * pause, _LONGEST)

    def _is_more(self, wanted: int) -> bool:
        return self._stopped or self._wanted > wanted

    def _look(self) -> None:
        """Ask the server anew if it was started again since: it may serve an older export."""
        if self.served >= 0 and self._server.generation() < self._generation:
            _LOG.warning("vLLM was started again, and is told of the edits anew")
            with self._changed:
                self.served, self.trouble = -1, "it was started again"

    def _take(self, served: int, generation: int, wanted: int) -> None:
        """Keep what the server says that it serves. Raises NotAnswered where that is less than it was asked for."""
        with self._changed:
            self.served, self._generation = served, generation
        self._end(served, True)
        if served < wanted:
            raise NotAnswered(f"it serves the store's record {served} of {wanted}: does it read a copy of the store, or another one?")  # fmt: skip
        self.trouble = ""

    def _failed(self, reason: str) -> None:
        if reason != self.trouble:
            _LOG.warning("vLLM does not take up the edits, and is asked again: %s", reason)
        self.trouble = reason

    def _end(self, served: int, taken: bool) -> None:
        with self._changed:
            ready = [done for seq, done in self._waiting if seq <= served]
            self._waiting = [(seq, done) for seq, done in self._waiting if seq > served]
        for done in ready:
            with contextlib.suppress(InvalidStateError):  # whoever waited has left
                done.set_result(taken)
