"""Which keys and values of a prompt requests may share (vLLM's prefix cache), and prompts that come in parts (its chunked prefill).

A memory that acts on the answer changes nothing before the last of the words that choose the edit, so what is cached before these words is the base
model's, whatever is read. The words themselves must pass the early layer in the request's own name, for there its edit is chosen; and behind them the
cache depends on the edit. So a request shares the blocks that end before its words, and no block behind: those carry its own name in their hash.
"""

from __future__ import annotations

import functools
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from .choice import Choice
from .patching import own, put

PRIVATE = "_memoir_private"  # in a request's extra arguments: [the first token whose block is its own, a name that nobody else has]


def cuttable(section: dict[str, Any]) -> bool:
    """Whether a memory can be served with prefix caching and chunked prefill. section: the checkpoint's `memoir` section."""
    return section.get("router") == "tokens" and section.get("acts") == "answer"


def private_from(extra: dict[str, Any] | None, prompt: int) -> int | None:
    """The first token of a prompt whose keys and values other requests may not use; None where they may use all.

    Args:
        extra: the request's extra arguments, with its words as `memoir_span` where they are known. prompt: its length.
    """
    choice = Choice.of(extra, prompt)
    if choice.off:
        return None
    return 0 if choice.span is None else choice.span[0]


def with_private(extra: dict[str, Any] | None, prompt: int) -> dict[str, Any]:
    """A request's extra arguments with what `install` reads. What a client sends under that name is dropped."""
    first = private_from(extra, prompt)
    others = {name: value for name, value in (extra or {}).items() if name != PRIVATE}
    return others if first is None else {**others, PRIVATE: [first, secrets.token_hex(16)]}


def install() -> None:
    """Let the blocks of edited models' requests carry their request's name, in the process that schedules. Raises where this vLLM has no such place."""
    from vllm.v1.core import kv_cache_utils

    original = own(kv_cache_utils, "generate_block_hash_extra_keys", "this vLLM")
    if original is None:
        return

    @functools.wraps(original)
    def extra_keys(request: Any, start: int, end: int, start_mm_idx: int) -> tuple[tuple[Any, ...] | None, int]:
        found, index = original(request, start, end, start_mm_idx)
        params = request.sampling_params
        private = None if params is None else (params.extra_args or {}).get(PRIVATE)
        if private is not None and end > private[0]:
            # The parts of one request (n > 1) have one name: each chooses its edit by itself.
            found = (*(found or ()), ("memoir", f"{private[1]} {request.request_id}"))
        return found, index

    put(kv_cache_utils, "generate_block_hash_extra_keys", extra_keys)
    pool = sys.modules.get(
        "vllm.v1.core.block_pool"
    )  # which tells events of blocks, and may have taken vLLM's own before
    if pool is not None:
        put(pool, "generate_block_hash_extra_keys", extra_keys)


@dataclass
class Words:
    """The early activations of a request's words, as they come.

    Attributes:
        first: the position of the first; rows: (words, d); end: the position up to which they have come.
    """

    first: int
    rows: torch.Tensor
    end: int


class Gathered:
    """Requests whose words have not all passed the early layer."""

    def __init__(self) -> None:
        self._words: dict[str, Words] = {}

    def __iter__(self) -> Iterator[str]:
        """The requests, the one that began first in front."""
        return iter(self._words)

    def __contains__(self, request: str) -> bool:
        """Whether some of its words have come, or will, and not all."""
        return request in self._words

    def forget(self, request: str) -> None:
        """It has ended."""
        self._words.pop(request, None)

    def add(self, request: str, span: tuple[int, int], computed: int, hidden: torch.Tensor) -> torch.Tensor | None:
        """Take the activations of a pass.

        Args:
            span: [start, end), the positions of the words. computed: the position of the first row of `hidden` (n, d).

        Returns:
            (span's end, d) with the words' rows in their places, once all have come; None before.

        Raises:
            RuntimeError: rows between have never come.
        """
        first, last = span
        if computed <= first and last <= computed + len(hidden):  # all at once, as nearly always
            self.forget(request)
            return hidden if not computed else _placed(hidden[first - computed : last - computed], first)
        known = self._words.get(request)
        if known is None:
            known = self._words[request] = Words(first, hidden.new_zeros(last - first, hidden.shape[1]), first)
        begin, end = max(computed, first), min(computed + len(hidden), last)
        if begin < end:
            if begin > known.end:
                raise RuntimeError(
                    f"request {request}: tokens {known.end} to {begin} of its words were never computed for it, and an edit is chosen by all of them. "
                    "A cache filled by other requests was used: report this, and start the server with --no-enable-prefix-caching"
                )
            known.rows[begin - first : end - first] = hidden[begin - computed : end - computed]
            known.end = max(known.end, end)
        if known.end < last:
            return None
        self.forget(request)
        return _placed(known.rows, first)


def _placed(rows: torch.Tensor, first: int) -> torch.Tensor:
    """(first + len(rows), d): the rows behind as many zeros as there are tokens before them."""
    return torch.cat([rows.new_zeros(first, rows.shape[1]), rows])
