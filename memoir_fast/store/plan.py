"""What a number of edits costs in memory and on disk, from the model's sizes alone; without torch, and before anything is loaded.

The bytes of tensors are exact. What Python, SQLite and JSON take for an edit was measured on SmolLM2 and depends on how long its texts are
(tests/store/test_plan.py compares both with real stores).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.sizes import Sizes
from ..config import MemoirConfig, number_of_layer
from ..defaults import default_masks, default_page_edits, default_top_k, rank_of
from ..editing.update_rule import rule_of
from ..errors import quoted
from ..journal.record import DTYPES

if TYPE_CHECKING:
    from .manifest import Manifest

# Training tokens of an edit at which the memory acts: the mean over 800 facts of four data sets in SmolLM2's chats. In plain text,
# where ten contexts come in front and the memory acts everywhere, it is 280.
CHAT_TOKENS = 32
COMPACT_BYTES = 256 << 20  # of the newest segment, from which a store writes a snapshot of its own accord
_MOST_BITS, _VECTORS = 576, 4  # of a word's code; columns of what a snapshot says of C's drift
_STRIP = 128  # rows of C's upper triangle that are held together, with the square on the diagonal
_WORDS, _WORD_TOKENS, _TEXT = 9, 13, 70  # words, tokens and bytes (of prompt and target) of one edit
_HEADER, _ROW = 520, 140  # bytes of an edit's header without texts and codes, and of its row in the ledger
_FRAME = 330  # bytes of a record around header and tensors
_DETAILS, _KEYS = 3900, 1050  # bytes of Python's objects for an edit, and of the words' rule's without codes
_LEXICON = 5_000_000  # bytes of the words' rule itself: its word lists and networks
_UNRELATED = 498  # bytes of the shipped unrelated prompts' codes for each bit of a word's code


@dataclass(frozen=True)
class Plan:
    """What is planned, and what it costs.

    Args:
        sizes: the model's.
        config: settings of the memory; those left open take their defaults.
        edits: how many.
        tokens: training tokens of an edit at which the memory acts.
        record_dtype: of the log's tensors.
        snapshots: how many there are; None for as many as a store writes of its own accord.

    Raises:
        ValueError: top_k is larger than D, or an argument is not accepted.
    """

    sizes: Sizes
    config: MemoirConfig = field(default_factory=MemoirConfig)
    edits: int = 1000
    tokens: float = CHAT_TOKENS
    record_dtype: str = "float32"
    snapshots: int | None = None

    def __post_init__(self) -> None:
        if self.top_k > self.sizes.in_features:
            raise ValueError(
                f"top_k must be in [1, {self.sizes.in_features}] for this projection, got {self.config.top_k}"
            )
        if self.record_dtype not in DTYPES:
            raise ValueError(f"record_dtype must be one of {DTYPES}, got {quoted(self.record_dtype)}")
        if self.edits < 0 or self.tokens <= 0:
            raise ValueError(
                f"edits must be 0 or more and tokens more than 0, got {quoted(self.edits)} and {quoted(self.tokens)}"
            )

    @property
    def top_k(self) -> int:
        """k."""
        return self.config.top_k or default_top_k(self.sizes.in_features, self.masks)

    @property
    def masks(self) -> str:
        """Which features an edit writes to, see `MemoirConfig.masks`; where that is left open, as in a chat."""
        return self.config.masks or default_masks(self.config.router, is_chat=True)

    @property
    def tracks(self) -> bool:
        """Whether the memory keeps C."""
        return rule_of(self.config).tracks

    @property
    def _by_words(self) -> bool:
        return self.config.router == "tokens"

    @property
    def _bits(self) -> int:
        """Bits of a word's code."""
        return min(self.sizes.out_features, _MOST_BITS) // 8 * 8

    @property
    def _width(self) -> int:
        """Bytes of a mask."""
        return (self.sizes.in_features + 7) // 8

    @property
    def page_edits(self) -> int:
        """How many edits share a page; 0 for all of them."""
        chosen = self.config.page_edits
        return default_page_edits(self.sizes.in_features, self.masks) if chosen is None else chosen

    @property
    def _newest(self) -> int:
        """Edits in the newest page."""
        size = self.page_edits
        return (self.edits - 1) % size + 1 if size and self.edits else self.edits

    def _touched(self, edits: int) -> int:
        """How many features of a page are on some edit's mask; those of prompts as if they were drawn at random, though real ones are more alike."""
        D = self.sizes.in_features
        if self.masks == "spread":
            return min(D, edits * self.top_k)
        return round(D * (1 - (1 - self.top_k / D) ** edits))

    @property
    def _rows(self) -> int:
        """Rows of V that some edit has written to, in all pages."""
        full = (self.edits - self._newest) // self.page_edits if self.page_edits else 0
        return full * self._touched(self.page_edits) + self._touched(self._newest)

    def _code(self) -> int:
        """Bytes of a stored prompt's code; none where masks route."""
        return 8 + 4 * _WORD_TOKENS + _WORDS * self._bits // 8 if self._by_words else 0

    def _of_words(self) -> int:
        """Bytes of the words' tensors; none where masks route."""
        h, V = self.sizes.out_features, self.sizes.vocabulary
        return 4 * h * (self._bits + 1) + 4 * V + _UNRELATED * self._bits if self._by_words else 0

    # ---- what it costs, in bytes -------------------------------------------------------------------------------------

    def memory(self) -> dict[str, int]:
        """Main memory beyond the base model's."""
        d = self.sizes.out_features
        keys = self._of_words() + _LEXICON + self.edits * (_KEYS + self._code()) if self._by_words else 0
        found = {
            "weights": 4 * self._rows * d,
            "earlier reads": self._reads(),
            "masks": self.edits * self._width,
            "words": keys,
            "details": self.edits * (_DETAILS + self._code() * 4 // 3 + _TEXT),
        }
        return _with_sum(found)

    def _reads(self) -> int:
        """C in main memory."""
        rows, D = self._touched(self._newest), self.sizes.in_features
        if not self.tracks:
            return 0
        return self._small() if self._rank else 2 * rows * (D + min(_STRIP, D))

    @property
    def _rank(self) -> int:
        """C's directions; 0 where half of it is kept."""
        return rank_of(self.sizes.in_features) if self.page_edits else 0

    def _small(self) -> int:
        """Bytes of C in its small form: its directions and the diagonal, and half as many rows as come before they are sought anew."""
        D, seen = self.sizes.in_features, round(self._newest * self.tokens)
        return 4 * (min(seen, self._rank) * D + D + min(seen, self._rank // 2) * self.top_k)

    def record(self) -> int:
        """One edit's record in the log."""
        d, k, n = self.sizes.out_features, self.top_k, self.tokens
        numbers = min(n * (k + d), k * d) + (n * k if self.tracks else 0)
        tensors = numbers * (2 if self.record_dtype == "bfloat16" else 4) + self._width
        return round(tensors) + _FRAME + self._header()

    def _header(self) -> int:
        return _HEADER + _TEXT + self._code() * 4 // 3

    def snapshot(self) -> int:
        """A snapshot of the memory, without the pages that it lists."""
        rows, D = self._touched(self._newest), self.sizes.in_features
        half = 2 * rows * (rows + 1) + 4 * rows + 8 * D * _VECTORS
        C = (self._small() if self._rank else half) if self.tracks else 0
        return C + self.edits * (8 + self._width) + 600 + self._pages * 20

    def pages(self, snapshots: int = 1) -> int:
        """The files of the pages that so many snapshots list: the newest one's, and of each earlier one that which was then the newest."""
        rows = self._rows + (snapshots - 1) * self._touched(self._newest)
        return (4 * rows * (self.sizes.out_features + 1) + 152 * (self._pages + snapshots - 1)) if snapshots else 0

    @property
    def _pages(self) -> int:
        """How many pages there are."""
        return -(-self.edits // self.page_edits) if self.page_edits else min(1, self.edits)

    def base_file(self) -> int:
        """The store's base file; `write="preconditioned"` or not, it holds what routing was measured with."""
        calibration = 0 if self._by_words else 1000 * self._width
        return 8 * self.sizes.in_features + self._of_words() + calibration + 800

    def disk(self) -> dict[str, int]:
        """A store's folder, as it compacts itself."""
        log = self.edits * self.record()
        number = min(2, log // COMPACT_BYTES) if self.snapshots is None else self.snapshots
        found = {
            "log": log,
            "snapshots": number * self.snapshot(),
            "pages": self.pages(number),
            "base file": self.base_file(),
            "ledger": 20_000 + self.edits * (_ROW + _TEXT),
        }
        return _with_sum(found)

    def saved(self) -> int:
        """A memory folder, as `save_pretrained` writes it."""
        sums = 8 * self.sizes.in_features * _VECTORS if self.tracks and not self._rank else 0
        return self.snapshot() + self.pages() - sums + self.base_file() + self.edits * self._header() + 3000

    def value(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "architecture": self.sizes.architecture,
            "in_features": self.sizes.in_features,
            "out_features": self.sizes.out_features,
            "top_k": self.top_k,
            "page_edits": self.page_edits,
            "layer": self.sizes.layer,
            "layers": self.sizes.layers,
            "edits": self.edits,
            "tokens": self.tokens,
            "record_dtype": self.record_dtype,
            "memory": self.memory(),
            "record": self.record(),
            "snapshot": self.snapshot(),
            "disk": self.disk(),
            "saved": self.saved(),
        }

    @classmethod
    def of_store(cls, kept: Manifest, edits: int, size: float) -> Plan:
        """The plan whose edits an existing store has: of its model, settings and dtype, with as many tokens as its records hold.

        Args:
            kept: its manifest.
            edits: how many were made, whatever became of them.
            size: mean bytes of one in the log; 0 where there is none, for the tokens of a chat.
        """
        known = kept.fingerprint
        layers, vocabulary = (known.get(name) for name in ("layers", "vocabulary"))
        sizes = Sizes(str(known.get("architecture")), known["in_features"], known["out_features"], layers if type(layers) is int else 0,
                      number_of_layer(known.get("target")) or 0, vocabulary if type(vocabulary) is int else 0)  # fmt: skip
        made = cls(sizes, kept.config, edits, record_dtype=kept.record_dtype, snapshots=len(kept.snapshots))
        return made.with_records_of(size) if edits and size else made

    def with_records_of(self, size: float) -> Plan:
        """The same with as many tokens an edit as make records of this size, bytes."""
        one, two = (replace(self, tokens=tokens).record() for tokens in (1, 2))
        return replace(self, tokens=max(1.0, round(1 + (size - one) / (two - one), 1)))


def _with_sum(parts: dict[str, int]) -> dict[str, int]:
    return {**parts, "sum": sum(parts.values())}


def taken_by(folder: Path, kept: Manifest, edits: int) -> dict[str, Any]:
    """What an existing store takes, by the names of a plan: "disk", all its "bytes", the mean "record" and the newest "snapshot" without its pages, None where there is none.

    Args:
        folder: the store's. kept: its manifest. edits: how many were made.
    """
    sizes = {path.name: path.lstat().st_size for path in folder.iterdir()}

    def of(beginning: str) -> int:
        return sum(size for name, size in sizes.items() if name.startswith(beginning))

    disk = {
        "log": of("log-"),
        "snapshots": of("snapshot-"),
        "pages": of("page-"),
        "base file": of("base"),
        "ledger": of("ledger.sqlite"),
    }
    newest = sizes.get(kept.snapshots[0].file) if kept.snapshots else None
    return {
        "bytes": sum(sizes.values()),
        "disk": _with_sum(disk),
        "record": disk["log"] / edits if edits else None,
        "snapshot": newest,
    }
