"""Stored edits' wordings, for the keys: taken from their records, or read again by the model if a record holds no
codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..reading.matching.demands import offers
from ..reading.matching.keys import Wordings
from ..reading.matching.matcher import Wording
from .journal import Journal

Read = Callable[[list[str]], list[Wording]]


class StoredWordings:
    """A callable from an edit's id to its `Wordings`.

    Args:
        journal: keeps the edits; replaced when another journal takes over.
        bits: the number of bits of the matcher's codes.
        read: turns texts into their wordings, with the model.
    """

    def __init__(self, journal: Journal, bits: int, read: Read):
        self.journal, self.bits, self.read = journal, bits, read
        self._again: dict[
            tuple[str, ...], list[Wording]
        ] = {}  # by texts, for edits whose records hold no codes of this matcher

    def __call__(self, edit: int) -> Wordings:
        header = self.journal.state.entries[edit].header
        asked = 1 + len(header.get("rephrasings", []))
        codes = self._kept(header)
        if codes is None:
            self.prepare([edit])
            codes = self._again[_texts(header)]
        return Wordings(codes[:asked], codes[asked:], header.get("subject", ""), offers(header["target"]))

    def prepare(self, edits: Iterable[int]) -> None:
        """Read, in batches, the wordings that are missing in some edits' records: those of old versions or other
        matchers."""
        headers = [self.journal.state.entries[edit].header for edit in edits]
        missing = [
            texts for header in headers if self._kept(header) is None and (texts := _texts(header)) not in self._again
        ]
        missing = [texts for texts in dict.fromkeys(missing) if all(map(str.strip, texts))]
        read = iter(self.read([text for texts in missing for text in texts]) if missing else [])
        self._again.update({texts: [next(read) for _ in texts] for texts in missing})
        for header in headers:
            self._again.setdefault(_texts(header), [])  # an edit with a blank text is never found

    def _kept(self, header: dict[str, Any]) -> list[Wording] | None:
        """The wordings in the record itself, or None."""
        codes = header.get("codes", [])
        try:
            return [Wording.unpacked(text, self.bits) for text in codes] if codes else None
        except ValueError:  # codes of another width
            return None


def _texts(header: dict[str, Any]) -> tuple[str, ...]:
    return (header["prompt"], *header.get("rephrasings", []), *header.get("not_prompts", []))
