"""The stored wordings of the edits that queries can find, and the look-up among them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from .candidates import Candidates
from .demands import EVERYTHING
from .judge import surely_asks
from .key_store import MOST_KEY_WORDS, KeyStore
from .matcher import Matcher, Wording
from .prompt_codes import PromptCode

CANDIDATES = 64
# The probability from which two prompts may count as the same question, so that the newer edit takes the older one's place.
SURE = 0.8
# Of the threshold, for stored prompts that are no questions ("The capital of X is"): their other wordings are looser.
STATEMENT_SHARE = 0.56
# Only the very words of a stored wording are sure to ask for it.
NEVER_CERTAIN = 1 - 1e-6
# The weight from which a word is taken to matter: two prompts that share no such word do not ask the same.
MATTERS = 0.3


@dataclass(frozen=True)
class Wordings:
    """All texts that belong to one edit.

    Attributes:
        asked: its prompt, then its rephrasings; kept_out: prompts that must not read it.
        subject: the words that a query must hold; "" for none.
        offers: the kinds of answer that the edit's target may be, see `demands.py`.
    """

    asked: list[Wording]
    kept_out: list[Wording] = field(default_factory=list)
    subject: str = ""
    offers: int = EVERYTHING

    @classmethod
    def unpacked(cls, asked: list[str], kept_out: list[str], subject: str, offers: int, bits: int) -> Wordings:
        """From packed wordings (`Wording.packed`); bits: B of the matcher."""
        read = [[Wording.unpacked(one, bits) for one in some] for some in (asked, kept_out)]
        return cls(read[0], read[1], subject, offers)


@dataclass(frozen=True)
class Match:
    """A stored edit that was compared with a query.

    Attributes:
        edit: its id; wording: which of its wordings matched best, 0 for its prompt; row: that wording's row in the keys.
        score: 0..1, how likely the query asks for it, on a scale on which one threshold holds for all; 0 where something keeps it out.
        kept_out: what did: "" for nothing, "not_prompts", or "subject".
        likeness: the score that it has, or would have if nothing kept it out.
    """

    edit: int
    wording: int
    row: int
    score: float
    kept_out: str = ""
    likeness: float = 0.0


class Keys:
    """The wordings of the findable edits; follows the signature index (it is one of its listeners).

    An edit's wordings are asked for at the next look-up, not when the index tells of the edit: a memory that is filled from a snapshot
    knows its signatures before its journal knows the edits. Whoever uses it holds the memory's lock.

    Args:
        matcher: the model's.
        wordings_of: edit id -> its wordings.
    """

    def __init__(self, matcher: Matcher, wordings_of: Callable[[int], Wordings]):
        self.matcher, self.wordings_of = matcher, wordings_of
        self.clear()

    def clear(self) -> None:
        """Forget all wordings."""
        self.store, self.candidates = KeyStore(), Candidates(self.matcher.bits)
        self.version = 0
        self._owner: list[tuple[int, int]] = []  # of each row: edit, and number of the wording (-1: one to keep out)
        self._rows: dict[int, list[int]] = {}
        self._open: list[bool] = []
        self._subjects: dict[int, frozenset[int]] = {}
        self._closed = 0
        self._waiting: dict[int, None] = {}  # findable, and not read yet
        self._chosen: tuple[int, frozenset[int] | None, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._rows) + len(self._waiting)

    # ---- following the index -------------------------------------------------------------------------------------

    def added(self, edits: Iterable[int], signatures: np.ndarray) -> None:
        """Edits can be found from now on."""
        self._waiting.update(dict.fromkeys(map(int, edits)))
        self.version += 1

    def removed(self, edits: Iterable[int]) -> None:
        """Edits can be found no longer; their rows are given back once they are half of all."""
        for edit in map(int, edits):
            self._waiting.pop(edit, None)
            for row in self._rows.pop(edit, []):
                self.candidates.remove(row, self.store.words_of(row))
                self._open[row] = False
                self._closed += 1
            self._subjects.pop(edit, None)
        self.version += 1

    def settle(self) -> None:
        """Bring the rows to what is findable."""
        if self._closed > max(256, len(self._open) // 2):
            kept = sorted({*self._rows, *self._waiting})
            self.clear()
            self._waiting = dict.fromkeys(kept)
        for edit in sorted(self._waiting):
            self._take(edit, self.wordings_of(edit))
            del self._waiting[edit]

    def _take(self, edit: int, wordings: Wordings) -> None:
        rows = self._rows[edit] = []
        numbered = [*enumerate(wordings.asked), *((-1, one) for one in wordings.kept_out)]
        for number, wording in numbered:
            code = self.matcher.code(wording)
            if code is None or not len(code):
                continue
            code = code.last(MOST_KEY_WORDS)
            rows.append(self.store.add(code, wordings.offers if number >= 0 else EVERYTHING))
            self.candidates.add(code)
            self._owner.append((edit, number))
            self._open.append(True)
        if wordings.subject.strip():
            self._subjects[edit] = self.words_of(wordings.subject)

    def words_of(self, text: str) -> frozenset[int]:
        """The words of a text, as numbers that `PromptCode.word` holds too."""
        tokens = self.matcher.reader.tokenizer(text, add_special_tokens=False)["input_ids"]
        words = self.matcher.reader.words(tokens)
        return frozenset(
            self.matcher.prompts.code(words, np.zeros((len(words), self.matcher.bits // 8), np.uint8)).word.tolist()
        )

    # ---- looking up ----------------------------------------------------------------------------------------------

    def ranked(
        self, query: PromptCode, admitted: Collection[int] | None = None, number: int = CANDIDATES
    ) -> list[Match]:
        """The edits that the query may ask for, likeliest first; the newest among equals.

        Args:
            admitted: ids of the edits that count; None for all.
        """
        self.settle()
        if not self._rows or not len(query):
            return []
        rows = self.candidates(query, number, self._open_rows(admitted))
        return self._matches(query, rows) if len(rows) else []

    def score(self, query: PromptCode, edit: int, guarded: bool = True) -> float:
        """How likely the query asks for one findable edit, 0..1. guarded: 0 where the user's not_prompts or subject keep it out."""
        self.settle()
        rows = np.array([row for row in self._rows[edit] if guarded or self._owner[row][1] >= 0], np.int64)
        if not len(rows) or not len(query):
            return 0.0
        if not guarded:
            return float(self._scores(query, rows).max())
        return max((match.score for match in self._matches(query, rows)), default=0.0)

    def asks_the_same(self, query: PromptCode, match: Match) -> bool:
        """Whether a query and a stored wording are surely the same question; see `same_question`."""
        if match.score < SURE:
            return False
        _, number = self._owner[match.row]
        code = self.matcher.code(self.wordings_of(match.edit).asked[number])
        return code is not None and self.same_question(query, code)

    def same_question(self, one: PromptCode, other: PromptCode) -> bool:
        """Whether two prompts surely ask the same: each asks for the other, and no number, name or day differs."""
        return all(
            len(code) > 0 and surely_asks(code, KeyStore([key]), self.matcher.classifier, SURE)
            for code, key in ((one, other), (other, one))
        )

    def vocabulary(self, edit: int) -> list[int]:
        """The words that matter in a findable edit's wordings, as numbers."""
        self.settle()
        if not self._rows[edit]:
            return []
        arrays, present = self.store.take(np.array(self._rows[edit], np.int64))
        return arrays["word"][present & (arrays["weight"] > MATTERS)].tolist()

    def _matches(self, query: PromptCode, rows: np.ndarray) -> list[Match]:
        scores = self._scores(query, rows)
        asked: dict[int, Match] = {}
        against: dict[int, float] = {}
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            edit, number = self._owner[row]
            if number < 0:
                against[edit] = max(score, against.get(edit, 0.0))
            elif edit not in asked or score > asked[edit].score:
                asked[edit] = Match(edit, number, row, score)
        said = frozenset(query.word.tolist())
        found = [self._of_many(self._checked(match, against.get(match.edit, 0.0), said)) for match in asked.values()]
        return sorted(found, key=lambda match: (-match.score, -match.edit))

    def _scores(self, query: PromptCode, rows: np.ndarray) -> np.ndarray:
        likely = self.matcher.probabilities(query, self.store, rows)
        asks = self.store.prompts("asks", rows) | (self.store.prompts("answer", rows) > 0) | query.asks.any()
        scores = np.minimum(np.where(asks, likely, likely / STATEMENT_SHARE), NEVER_CERTAIN)
        return np.where(self.store.prompts("text", rows) == query.text, 1.0, scores)

    def _checked(self, match: Match, against: float, said: frozenset[int]) -> Match:
        """The match, with the word of the user's that keeps it out."""
        if against >= match.score and against > 0:
            return replace(match, kept_out="not_prompts")
        if not self._subjects.get(match.edit, frozenset()) <= said:
            return replace(match, kept_out="subject")
        return match

    def _of_many(self, match: Match) -> Match:
        """The match of an edit with n wordings: each is a chance to be taken for the query, so the odds are divided by n."""
        number = sum(self._owner[row][1] >= 0 for row in self._rows[match.edit])
        score = match.score / (match.score + number * (1 - match.score)) if number > 1 else match.score
        return replace(match, score=0.0 if match.kept_out else round(score, 9), likeness=round(score, 9))

    def _open_rows(self, admitted: Collection[int] | None) -> np.ndarray | None:
        if admitted is None and not self._closed:
            return None
        wanted = None if admitted is None else frozenset(admitted)
        if self._chosen is None or self._chosen[0] != self.version or self._chosen[1] != wanted:
            opened = np.array(self._open)
            if wanted is not None:
                chosen = np.zeros_like(opened)
                chosen[[row for edit in wanted for row in self._rows.get(edit, ())]] = True
                opened &= chosen
            self._chosen = self.version, wanted, opened
        return self._chosen[2]
