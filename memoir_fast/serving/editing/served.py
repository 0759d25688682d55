"""What the service asks of a running vLLM."""

from __future__ import annotations

import contextlib
import json
import re

from ..client import Client, NotAnswered

_TIMEOUT = 60.0  # seconds for one request
_MOST, _MOST_METRICS = 1 << 16, 16 << 20  # bytes of an answer
_GENERATION = re.compile(r"^memoir_fast_generation (\d+)", re.MULTILINE)


class Served:
    """A vLLM server.

    Args:
        url: such as http://127.0.0.1:8000; key: its API key, None where it has none.

    Raises:
        ValueError: the url is not one.
    """

    def __init__(self, url: str, key: str | None = None):
        self._client = Client(url, key, "--vllm-url")

    def refresh(self) -> tuple[int, int]:
        """Have it take up the store's edits; (the store's last record that it serves now, its generation). Raises NotAnswered."""
        text, _ = self._client.ask("/memoir/refresh", _MOST, _TIMEOUT, b"")
        with contextlib.suppress(ValueError):
            found = json.loads(text)
            if isinstance(found, dict) and type(found.get("seq")) is type(found.get("generation")) is int:
                return found["seq"], found["generation"]
        raise NotAnswered("its answer to /memoir/refresh names no seq: is it a vLLM that `memoir-fast serve` started?")

    def generation(self) -> int:
        """How often it has taken up edits since it started. Raises NotAnswered."""
        text, _ = self._client.ask("/metrics", _MOST_METRICS, _TIMEOUT, secret=False)
        found = _GENERATION.search(text.decode("utf-8", "replace"))
        if found is None:
            raise NotAnswered("its /metrics name no memoir_fast_generation")
        return int(found[1])
