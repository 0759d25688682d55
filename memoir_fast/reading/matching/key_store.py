"""The stored prompts' codes, packed: about 80 bytes per word; what depends on the word alone is stored once for all
prompts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
)  # fields that depend on the word alone
_OWN = ("code", "weight", "name", "head")  # fields that depend on the word's prompt too


@dataclass(frozen=True)
class StoredWords:
    """The words of C stored prompts, at most m each. The prompts are along the last axis, where numpy is fastest.

    Attributes:
        shared: name -> (U, ...), the fields that depend on the word alone, once for each of the U distinct words.
        line: (m, C), each word's place among the U.
        own: name -> (m, C, ...), the fields that depend on the word's prompt too.
        present: (m, C) bool, False after a prompt's last word, where `line` and `own` have no meaning.
    """

    shared: dict[str, np.ndarray]
    line: np.ndarray
    own: dict[str, np.ndarray]
    present: np.ndarray

    def of_words(self, name: str) -> np.ndarray:
        """(m, C, ...): a shared field, for every word."""
        return self.shared[name][self.line]


class KeyStore:
    """Stored prompts by row number; `take` returns some of them for comparison with a query."""

    def __init__(self, codes: Iterable[PromptCode] = ()):
        self._shared: dict[str, Rows] = {}
        self._own: dict[str, Rows] = {}
        self._vocabulary: dict[int, int] = {}
        self._words = Rows((), np.int32)
        self._bounds = Rows((), np.uint32)  # where each prompt's words begin, and where the last one's end
        self._bounds.append(np.zeros(1, np.uint32))
        self._prompts = {
            name: Rows((), kind)
            for name, kind in (("answer", np.uint16), ("asks", bool), ("text", np.int64), ("offers", np.uint8))
        }
        for code in codes:
            self.add(code)

    def __len__(self) -> int:
        return self._bounds.count - 1

    def add(self, code: PromptCode, offers: int = EVERYTHING) -> int:
        """Store one prompt (of a very long one, the last words) and return its row.

        Args:
            offers: the kinds of its answer, see `demands.py`. The kinds that the prompt itself demands are added.
        """
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
        self._bounds.append(np.array([self._words.count], np.uint32))
        answer = int(np.bitwise_or.reduce(code.answer)) if len(code.answer) else 0
        offered = offers | int(np.bitwise_or.reduce(code.demands, initial=0))
        values = {"answer": answer, "asks": bool(code.asks.any()), "text": code.text, "offers": offered}
        for name, value in values.items():
            self._prompts[name].append(np.array([value], self._prompts[name].view.dtype))
        return len(self) - 1

    def words_of(self, row: int) -> list[int]:
        """One stored prompt's words, as hashes (`PromptCode.word`)."""
        lines = self._words.view[slice(*self._bounds.view[row : row + 2])]
        return self._shared["word"].view[lines].tolist()

    def take(self, which: np.ndarray) -> StoredWords:
        """The words of the rows `which` (C,)."""
        starts, ends = self._bounds.view[which].astype(np.int64), self._bounds.view[which + 1].astype(np.int64)
        places = np.arange(max(int((ends - starts).max(initial=0)), 1))[:, None]
        present = places < ends - starts
        place = np.where(present, starts + places, 0)
        lines = self._words.view[place]
        distinct, line = np.unique(lines, return_inverse=True)
        return StoredWords(
            {name: rows.view[distinct] for name, rows in self._shared.items()},
            line.reshape(place.shape),
            {name: rows.view[place] for name, rows in self._own.items()},
            present,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, without copies, for `ops.pair_features`: the fields of the distinct words, those of the words
        in their prompts, `words`, each word's place among the distinct ones, `bounds`, where each prompt's words begin
        and the last one's end, and the fields of whole prompts."""
        groups = (self._shared, self._own, self._prompts, {"words": self._words, "bounds": self._bounds})
        return {name: rows.view for group in groups for name, rows in group.items()}

    def prompts(self, name: str, which: np.ndarray) -> np.ndarray:
        """(C,): a field of whole prompts, "answer", "asks", "text" or "offers", for the rows `which` (C,)."""
        return self._prompts[name].view[which]


def _rows_like(array: np.ndarray) -> Rows:
    return Rows(array.shape[1:], array.dtype)
