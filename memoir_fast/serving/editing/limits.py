"""How many requests each may make, by a bucket that fills with time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST = 4096  # names that are remembered; the one that asked longest ago is forgotten first


class Rate:
    """Counts requests by name.

    Args:
        per_minute: how many each name may make in a minute, and at once. clock: seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic):
        self.per_minute, self._clock = per_minute, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, name: str) -> int:
        """Count a request; the seconds after which it would be let through, 0 where it is."""
        with self._lock:
            left = self._now(name) - 1
            if left < 0:
                return max(1, round(-left * 60 / self.per_minute))
            self._keep(name, left)
            return 0

    def _now(self, name: str) -> float:
        left, at = self._left.get(name, (float(self.per_minute), self._clock()))
        return min(float(self.per_minute), left + (self._clock() - at) * self.per_minute / 60)

    def _keep(self, name: str, left: float) -> None:
        self._left[name] = (left, self._clock())
        self._left.move_to_end(name)
        while len(self._left) > _MOST:
            self._left.popitem(last=False)
