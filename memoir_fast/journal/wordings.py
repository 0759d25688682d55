"""The wordings of stored edits, for the keys: from their records, or read again by the model where a record holds no codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
        self._again: dict[int, list[Wording]] = {}  # edits from before codes were kept

    def __call__(self, edit: int) -> Wordings:
        header = self.journal.state.entries[edit].header
        codes = [Wording.unpacked(text, self.bits) for text in header.get("codes", [])]
        if not codes:
            if edit not in self._again:
                self.prepare([edit])
            codes = self._again[edit]
        asked = 1 + len(header.get("rephrasings", []))
        return Wordings(codes[:asked], codes[asked:], header.get("subject", ""))

    def prepare(self, edits: Iterable[int]) -> int:
        """Read those edits' texts whose records hold no codes, in batches; returns how many edits those are."""
        entries = self.journal.state.entries
        missing = [edit for edit in edits if not entries[edit].header.get("codes") and edit not in self._again]
        texts = [[text for text in _texts(entries[edit].header) if text.strip()] for edit in missing]
        read = iter(self.read([text for some in texts for text in some]) if missing else [])
        for edit, some in zip(missing, texts, strict=True):
            self._again[edit] = [next(read) for _ in some]
        return len(missing)


def _texts(header: dict) -> list[str]:
    return [header["prompt"], *header.get("rephrasings", []), *header.get("not_prompts", [])]
