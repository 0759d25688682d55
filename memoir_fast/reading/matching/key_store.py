"""The stored prompts' codes, packed: about 80 bytes a word, and what only depends on a word once for all prompts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...memory.rows import Rows
from .demands import EVERYTHING
from .prompt_codes import PromptCode

MOST_KEY_WORDS = 40
_SHARED = (
    "word",
    "spelling",
    "letters",
    "length",
    "meaning",
    "contrast",
    "member",
    "number",
    "content",
    "sense",
)  # of a word, whatever its prompt
_OWN = ("code", "coded", "weight", "name", "head")  # of a word in its prompt


class KeyStore:
    """Stored prompts by row number; `take` gives some of them as padded arrays for comparing with one query."""

    def __init__(self, codes: Iterable[PromptCode] = ()):
        self._shared: dict[str, Rows] = {}
        self._own: dict[str, Rows] = {}
        self._vocabulary: dict[int, int] = {}
        self._words = Rows((), np.int32)
        self._starts = [0]
        self._prompts = {
            name: Rows((), kind)
            for name, kind in (("answer", np.uint16), ("asks", bool), ("text", np.int64), ("offers", np.uint8))
        }
        for code in codes:
            self.add(code)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def add(self, code: PromptCode, offers: int = EVERYTHING) -> int:
        """Store one prompt (the last words of a very long one); returns its row. offers: the kinds of its answer, see `demands.py`; what the
        prompt itself demands, its answer is taken to be."""
        code = code.last(MOST_KEY_WORDS)
        if not self._own:
            self._shared = {name: _rows_like(getattr(code, name)) for name in _SHARED}
            self._own = {name: _rows_like(getattr(code, name)) for name in _OWN}
        lines = []
        for position, word in enumerate(code.word.tolist()):
            line = self._vocabulary.setdefault(word, len(self._vocabulary))
            if line == self._shared["word"].count:
                for name in _SHARED:
                    self._shared[name].append(getattr(code, name)[position : position + 1])
            lines.append(line)
        self._words.append(np.array(lines, np.int32))
        for name in _OWN:
            self._own[name].append(getattr(code, name))
        self._starts.append(self._words.count)
        answer = int(np.bitwise_or.reduce(code.answer)) if len(code.answer) else 0
        offered = offers | int(np.bitwise_or.reduce(code.demands, initial=0))
        values = {"answer": answer, "asks": bool(code.asks.any()), "text": code.text, "offers": offered}
        for name, value in values.items():
            self._prompts[name].append(np.array([value], self._prompts[name].view.dtype))
        return len(self) - 1

    def words_of(self, row: int) -> list[int]:
        """The words of one stored prompt, as numbers."""
        lines = self._words.view[self._starts[row] : self._starts[row + 1]]
        return self._shared["word"].view[lines].tolist()

    def take(self, which: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Arrays (C, m, ...) of the rows' words by name, and (C, m) bool, which of them are words."""
        starts = np.array([self._starts[row] for row in which], np.int64)
        lengths = np.array([self._starts[row + 1] for row in which], np.int64) - starts
        columns = np.arange(max(int(lengths.max(initial=0)), 1))
        present = columns < lengths[:, None]
        place = np.where(present, starts[:, None] + columns, 0)
        lines = self._words.view[place]
        arrays = {name: rows.view[lines] for name, rows in self._shared.items()}
        arrays |= {name: rows.view[place] for name, rows in self._own.items()}
        return arrays, present

    def prompts(self, name: str, which: np.ndarray) -> np.ndarray:
        """(C,) what holds for whole prompts: "answer", "asks", "text" or "offers"."""
        return self._prompts[name].view[which]


def _rows_like(array: np.ndarray) -> Rows:
    return Rows(array.shape[1:], array.dtype)
