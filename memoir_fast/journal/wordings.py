"""The wordings of stored edits, for the keys: from their records, or read again by the model where a record holds no codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..reading.matching.demands import offers
from ..reading.matching.keys import Wordings
from ..reading.matching.matcher import Wording
from .journal import Journal

Read = Callable[[list[str]], list[Wording]]


class StoredWordings:
    """Edit id -> `Wordings`.

    Args:
        journal: what keeps the edits; set anew when another one takes over.
        bits: of the matcher's codes.
        read: texts -> what they say, by the model.
    """

    def __init__(self, journal: Journal, bits: int, read: Read):
        self.journal, self.bits, self.read = journal, bits, read
        self._again: dict[
            tuple[str, ...], list[Wording]
        ] = {}  # texts of edits whose records hold no codes of this matcher

    def __call__(self, edit: int) -> Wordings:
        header = self.journal.state.entries[edit].header
        asked = 1 + len(header.get("rephrasings", []))
        codes = self._kept(header)
        if codes is None:
            self.prepare([edit])
            codes = self._again[_texts(header)]
        return Wordings(codes[:asked], codes[asked:], header.get("subject", ""), offers(header["target"]))

    def prepare(self, edits: Iterable[int]) -> None:
        """Read in batches what the records of some edits do not say: edits from before codes were kept, or of another matcher."""
        headers = [self.journal.state.entries[edit].header for edit in edits]
        missing = [
            texts for header in headers if self._kept(header) is None and (texts := _texts(header)) not in self._again
        ]
        missing = [texts for texts in dict.fromkeys(missing) if all(map(str.strip, texts))]
        read = iter(self.read([text for texts in missing for text in texts]) if missing else [])
        self._again.update({texts: [next(read) for _ in texts] for texts in missing})
        for header in headers:
            self._again.setdefault(_texts(header), [])  # a text without words finds nothing

    def _kept(self, header: dict[str, Any]) -> list[Wording] | None:
        """The record's own codes, or None."""
        codes = header.get("codes", [])
        try:
            return [Wording.unpacked(text, self.bits) for text in codes] if codes else None
        except ValueError:  # of another width
            return None


def _texts(header: dict[str, Any]) -> tuple[str, ...]:
    return (header["prompt"], *header.get("rephrasings", []), *header.get("not_prompts", []))
