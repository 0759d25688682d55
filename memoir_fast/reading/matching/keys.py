"""The active edits' stored wordings, and the look-up among them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...memory.rows import Rows
from .candidates import Candidates
from .comparison import surely_asks
from .demands import EVERYTHING
from .key_store import MOST_KEY_WORDS, KeyStore
from .matcher import Matcher, Wording
from .prompt_codes import PromptCode

CANDIDATES = 64
FEW = 32  # candidates among at most `FEW_WORDINGS` stored wordings: of a thousand queries, 16 decided as 64 do beside 4,800
FEW_WORDINGS = 8192
AT_ONCE = 256  # edits that `scores` compares in one piece
# The probability from which two prompts may count as the same question, so that a new edit can replace the old one.
SURE = 0.8
# Scores are divided by this if neither stored prompt nor query is a question ("The capital of X is"), whose rewordings
# vary more.
STATEMENT_SHARE = 0.5
# The highest score of a query that is not word for word a stored wording.
NEVER_CERTAIN = 1 - 1e-6
# Above this weight a word matters; two prompts that share no such word do not ask the same.
MATTERS = 0.3


@dataclass(frozen=True)
class Wordings:
    """All texts that belong to one edit.

    Attributes:
        asked: its prompt, then its rephrasings.
        kept_out: the prompts that must not read it (`not_prompts`).
        subject: the words that a query must contain; "" for none.
        offers: the kinds of answer that the edit's target may be, see `demands.py`.
    """

    asked: list[Wording]
    kept_out: list[Wording] = field(default_factory=list)
    subject: str = ""
    offers: int = EVERYTHING

    @classmethod
    def unpacked(cls, asked: list[str], kept_out: list[str], subject: str, offers: int, bits: int) -> Wordings:
        """From packed wordings (`Wording.packed`). bits: the matcher's. Raises ValueError as `Wording.unpacked`."""
        read = [[Wording.unpacked(one, bits) for one in some] for some in (asked, kept_out)]
        return cls(read[0], read[1], subject, offers)


@dataclass(frozen=True)
class Match:
    """A stored edit, compared with a query.

    Attributes:
        edit: its id.
        wording: the number of its wording that matched best, 0 for its prompt.
        row: that wording's row in the keys.
        score: 0..1, how likely the query asks for it, on a scale with one threshold for all edits; 0 if it is excluded.
        kept_out: what excludes it: "not_prompts", "subject", or "" if nothing does.
        likeness: the score, or what it would be if nothing excluded the edit.
    """

    edit: int
    wording: int
    row: int
    score: float
    kept_out: str = ""
    likeness: float = 0.0


class Keys:
    """The active edits' wordings. It follows the signature index as one of its listeners.

    An edit's wordings are fetched at the next look-up, not when the index reports the edit, because a memory that is
    filled from a snapshot knows its signatures before its journal knows the edits. The caller holds the memory's lock.

    Args:
        matcher: the model's.
        wordings_of: takes an edit's id; returns its wordings.
    """

    def __init__(self, matcher: Matcher, wordings_of: Callable[[int], Wordings]):
        self.matcher, self.wordings_of = matcher, wordings_of
        self.clear()

    def clear(self) -> None:
        """Forget all wordings."""
        self.store, self.candidates = KeyStore(), Candidates(self.matcher.bits)
        self.version = 0
        self._owner = Rows((2,), np.int64)  # per row: the edit, and the wording's number (-1 for one of `kept_out`)
        self._open = Rows((), bool)
        self._first: dict[int, int] = {}  # per edit, its first row; its rows are adjacent
        self._subjects: dict[int, frozenset[int]] = {}
        self._closed = 0
        self._guarded = False  # whether any row is one of `kept_out`
        self._waiting: dict[int, None] = {}  # active edits whose wordings are not fetched yet
        self._chosen: tuple[int, frozenset[int] | None, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._first) + len(self._waiting)

    @property
    def owners(self) -> list[tuple[int, int] | None]:
        """Per row of the candidates: (edit, wording), where wording is 0 for the prompt, n for the nth rephrasing and
        -1 for one of `not_prompts`; None if the edit is no longer active."""
        rows = zip(self._owner.view.tolist(), self._open.view.tolist(), strict=True)
        return [(edit, number) if opened else None for (edit, number), opened in rows]

    # ---- following the index -------------------------------------------------------------------------------------

    def added(self, edits: Iterable[int], signatures: np.ndarray) -> None:
        """Edits became active."""
        self._waiting.update(dict.fromkeys(map(int, edits)))
        self.version += 1

    def removed(self, edits: Iterable[int]) -> None:
        """Edits are no longer active. Their rows are freed once they are half of all."""
        for edit in map(int, edits):
            self._waiting.pop(edit, None)
            for row in self._rows_of(edit):
                self.candidates.remove(row, self.store.words_of(row))
                self._open.view[row] = False
                self._closed += 1
            self._first.pop(edit, None)
            self._subjects.pop(edit, None)
        self.version += 1

    def settle(self) -> None:
        """Bring the rows up to date with the active edits."""
        if self._closed > max(256, self._open.count // 2):
            kept = sorted({*self._first, *self._waiting})
            self.clear()
            self._waiting = dict.fromkeys(kept)
        for edit in sorted(self._waiting):
            self._take(edit, self.wordings_of(edit))
            del self._waiting[edit]
        self._waiting = {}  # an emptied dictionary would keep its memory

    def _take(self, edit: int, wordings: Wordings) -> None:
        self._first[edit] = self._owner.count
        numbered = [*enumerate(wordings.asked), *((-1, one) for one in wordings.kept_out)]
        for number, wording in numbered:
            code = self.matcher.code(wording)
            if code is None or not len(code):
                continue
            code = code.last(MOST_KEY_WORDS)
            self.store.add(code, wordings.offers if number >= 0 else EVERYTHING)
            self.candidates.add(code)
            self._owner.append(np.array([(edit, number)]))
            self._open.append(np.ones(1, bool))
            self._guarded |= number < 0
        if wordings.subject.strip():
            self._subjects[edit] = self.words_of(wordings.subject)

    def _rows_of(self, edit: int) -> range:
        """An active edit's rows; none for another edit, or one whose wordings are not fetched yet."""
        first = end = self._first.get(edit, self._owner.count)
        while end < self._owner.count and self._owner.view[end, 0] == edit:
            end += 1
        return range(first, end)

    def words_of(self, text: str) -> frozenset[int]:
        """The words of a text, as hashes (`PromptCode.word`)."""
        tokens = self.matcher.reader.tokenizer(text, add_special_tokens=False)["input_ids"]
        words = self.matcher.reader.words(tokens)
        return frozenset(
            self.matcher.prompts.code(words, np.zeros((len(words), self.matcher.bits // 8), np.uint8)).word.tolist()
        )

    # ---- looking up ----------------------------------------------------------------------------------------------

    def ranked(
        self, query: PromptCode, admitted: Collection[int] | None = None, number: int | None = None
    ) -> list[Match]:
        """The edits that the query may ask for, likeliest first; the newest among equals.

        Args:
            admitted: the ids of the edits that count; None for all.
            number: the most wordings to compare; None for as many as a forward pass compares.
        """
        return list(self._likeliest(query, self._candidates(query, admitted, number), every=True))

    def best(self, query: PromptCode, admitted: Collection[int] | None = None) -> Match | None:
        """The first of `ranked`, or None. It is much faster, because the others are not ranked."""
        return next(self._likeliest(query, self._candidates(query, admitted, None), every=False), None)

    def score(self, query: PromptCode, edit: int, guarded: bool = True) -> float:
        """How likely the query asks for one active edit, 0..1. guarded: 0 if `not_prompts` or `subject` excludes it."""
        self.settle()
        rows = np.array(self._rows_of(edit), np.int64)
        if not guarded:
            rows = rows[self._owner.view[rows, 1] >= 0]
        if not len(rows) or not len(query):
            return 0.0
        if not guarded:
            return float(self._scores(query, rows).max())
        return max((match.score for match in self._likeliest(query, rows, every=True)), default=0.0)

    def scores(self, query: PromptCode, edits: Sequence[int]) -> list[float]:
        """How likely the query asks for each of some active edits, 0..1: `score`, for many in a fraction of the time."""
        self.settle()
        if not len(query):
            return [0.0] * len(edits)
        found: dict[int, float] = {}
        for start in range(0, len(edits), AT_ONCE):
            rows = [row for edit in edits[start : start + AT_ONCE] for row in self._rows_of(edit)]
            for match in self._likeliest(query, np.array(rows, np.int64), every=True):
                found[match.edit] = match.score
        return [found.get(edit, 0.0) for edit in edits]

    def asks_the_same(self, query: PromptCode, match: Match) -> bool:
        """Whether a query and a stored wording are certainly the same question; see `same_question`."""
        if match.score < SURE:
            return False
        code = self.matcher.code(self.wordings_of(match.edit).asked[match.wording])
        return code is not None and self.same_question(query, code)

    def same_question(self, one: PromptCode, other: PromptCode) -> bool:
        """Whether two prompts certainly ask the same: each asks for the other, and no number, name or day differs."""
        return all(
            len(code) > 0 and surely_asks(code, KeyStore([key]), self.matcher.classifier, SURE)
            for code, key in ((one, other), (other, one))
        )

    def vocabulary(self, edit: int) -> list[int]:
        """The words that matter in an active edit's wordings, as hashes (`PromptCode.word`)."""
        self.settle()
        rows = np.array(self._rows_of(edit), np.int64)
        if not len(rows):
            return []
        stored = self.store.take(rows)
        return stored.of_words("word")[stored.present & (stored.own["weight"] > MATTERS)].tolist()

    def _candidates(self, query: PromptCode, admitted: Collection[int] | None, number: int | None) -> np.ndarray:
        self.settle()
        if not self._first or not len(query):
            return np.zeros(0, np.int64)
        if number is None:
            number = FEW if self._owner.count <= FEW_WORDINGS else CANDIDATES
        return self.candidates(query, number, self._open_rows(admitted))

    def _likeliest(self, query: PromptCode, rows: np.ndarray, every: bool) -> Iterator[Match]:
        """The edits of some rows, likeliest first; the newest among equals. With every=False, those after the first may
        be missing."""
        if not len(rows):
            return
        scores = self._scores(query, rows)
        order = np.argsort(-scores, kind="stable")  # among an edit's equal wordings the first counts
        asked: dict[int, Match] = {}
        against = self._against(rows, scores)
        said, most = frozenset(query.word.tolist()), -1.0
        rows = rows[order]
        owners = self._owner.view[rows].tolist()
        for row, (edit, number), score in zip(rows.tolist(), owners, scores[order].tolist(), strict=True):
            if not every and round(score, 9) < most:
                break  # `_judged` never raises a score, so no later edit can beat the best one
            if number >= 0 and edit not in asked:
                match = self._judged(Match(edit, number, row, score), against.get(edit, 0.0), said)
                asked[edit], most = match, max(most, match.score)
        yield from sorted(asked.values(), key=lambda match: (-match.score, -match.edit))

    def _against(self, rows: np.ndarray, scores: np.ndarray) -> dict[int, float]:
        """Edit id -> the highest score of its `not_prompts`."""
        against: dict[int, float] = {}
        if self._guarded:
            for (edit, number), score in zip(self._owner.view[rows].tolist(), scores.tolist(), strict=True):
                if number < 0:
                    against[edit] = max(score, against.get(edit, 0.0))
        return against

    def _scores(self, query: PromptCode, rows: np.ndarray) -> np.ndarray:
        likely = self.matcher.probabilities(query, self.store, rows)
        asks = self.store.prompts("asks", rows) | (self.store.prompts("answer", rows) > 0) | query.asks.any()
        scores = np.minimum(np.where(asks, likely, likely / STATEMENT_SHARE), NEVER_CERTAIN)
        return np.where(self.store.prompts("text", rows) == query.text, 1.0, scores)

    def _judged(self, match: Match, against: float, said: frozenset[int]) -> Match:
        """The match with its final score, and with what excludes it.

        An edit with n wordings has n chances to match by accident, so its odds are divided by n.
        """
        score, kept_out = match.score, ""
        if against >= score and against > 0:
            kept_out = "not_prompts"
        elif match.edit in self._subjects and not self._subjects[match.edit] <= said:
            kept_out = "subject"
        number = int((self._owner.view[self._rows_of(match.edit), 1] >= 0).sum())
        if number > 1:
            score = score / (score + number * (1 - score))
        score = round(score, 9)
        return Match(match.edit, match.wording, match.row, 0.0 if kept_out else score, kept_out, score)

    def _open_rows(self, admitted: Collection[int] | None) -> np.ndarray | None:
        if admitted is None and not self._closed:
            return None
        wanted = None if admitted is None else frozenset(admitted)
        if self._chosen is None or self._chosen[0] != self.version or self._chosen[1] != wanted:
            opened = self._open.view.copy()
            if wanted is not None:
                chosen = np.zeros_like(opened)
                chosen[[row for edit in wanted for row in self._rows_of(edit)]] = True
                opened &= chosen
            self._chosen = self.version, wanted, opened
        return self._chosen[2]
