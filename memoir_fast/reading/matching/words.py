"""Finds the words in a token sequence, the units that the router compares, from the token ids alone.

A prompt reaches the router as token ids, since a forward pass has no text. So the text is put together again from the
tokens' pieces, with any tokenizer (byte-level BPE, SentencePiece). A word is a run of letters and digits, with the
tokens that it covers. Sentences end at ., ?, !, a colon, a semicolon, a dash, a line break or a special token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PARTIAL = "\ue000-\uf8ff"  # stand-ins for tokens that hold only part of a character
_WORD = re.compile(
    rf"[{_CJK}]|\d+(?:[.,:]\d+)+|\d+(?=[a-zA-Z]+\b)|(?:[^\W_{_CJK}]|[{_PARTIAL}])+(?:['’](?![sS]\b)(?:[^\W_{_CJK}]|[{_PARTIAL}])+)*"
)
# A row of marks is tried once, from its first: each of a million dots would look for the last one.
_END = re.compile(r"(?<![.!])[.!]+[\"'”’)]*(?=\s|$)|[?？！。]+|[:;](?=\s)|[\r\n]+|\ufdd0|\s[-–—]\s")
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr st sr jr prof vs no inc ltd co corp etc eg ie mt ft gen col lt rev hon dept est approx".split()
)
BREAK = "\ufdd0"  # stands for a special token
MOST_PARTS = 8  # the most tokens that characters are put together from
_STAND_IN = re.compile(f"[{_PARTIAL}]")


@dataclass(frozen=True)
class Words:
    """The W words of one text.

    Attributes:
        texts: W words as written.
        first: per word, the position of the first token with a part of it.
        last: per word, the position of the last such token.
        sentence: per word, the number of its sentence, ascending from 0.
        asks: per sentence, whether it ends with a question mark.
        opens: per word, whether it is the first of its sentence (so that a capital means nothing).
    """

    texts: list[str]
    first: list[int]
    last: list[int]
    sentence: list[int]
    asks: list[bool]
    opens: list[bool]

    def __len__(self) -> int:
        return len(self.texts)


class WordReader:
    """Splits token ids into words.

    Args:
        tokenizer: a Hugging Face tokenizer, slow or fast.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.special = set(tokenizer.all_special_ids) | set(getattr(tokenizer, "added_tokens_decoder", {}))
        self._anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1]
        self._lead = len(self._decode([self._anchor]))
        self._pieces: dict[int, str] = {}
        self._joined: dict[tuple[int, ...], str] = {}
        self.user_header, self.user_end = _user_frame(tokenizer)

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def piece(self, token: int) -> str:
        """What a token adds to a text that it follows; a special token adds `BREAK`."""
        found = self._pieces.get(token)
        if found is None:
            if token in self.special:
                found = BREAK
            else:
                found = self._decode([self._anchor, token])[self._lead :]
                if "\ufffd" in found:
                    found = chr(0xE000 + token % 6400)
            self._pieces[token] = found
        return found

    def user_span(self, tokens: list[int]) -> tuple[int, int]:
        """(start, end) positions of the last user message in a rendered chat; without one, of everything.

        The tokens around a user's words are known from the chat template, rendered once with a placeholder. A text
        without them is plain.
        """
        header, end = self.user_header, self.user_end
        if not header:
            return 0, len(tokens)
        for start in range(len(tokens) - len(header), -1, -1):
            if tokens[start : start + len(header)] == header:
                start += len(header)
                stop = next((i for i in range(start, len(tokens)) if tokens[i] == end), len(tokens))
                return (start, stop) if stop > start else (0, len(tokens))
        return 0, len(tokens)

    def words(self, tokens: list[int], span: tuple[int, int] | None = None) -> Words:
        """The words of the tokens in `span` (None for all); positions count from the start of the whole sequence."""
        start, end = span or (0, len(tokens))
        pieces: list[str] = []
        owner: list[int] = []
        while start < end:
            count, piece = self._next(tokens[start : min(end, start + MOST_PARTS)])
            pieces.append(piece)
            owner += [start + number * count // len(piece) for number in range(len(piece))]
            start += count
        return split("".join(pieces), owner)

    def _next(self, tokens: list[int]) -> tuple[int, str]:
        """How many tokens make up the next whole characters, and these characters; if none do, one token and a
        stand-in."""
        first = self.piece(tokens[0])
        if not _STAND_IN.fullmatch(first):
            return 1, first
        for count in range(2, len(tokens) + 1):
            together = tuple(tokens[:count])
            if together not in self._joined:
                if len(self._joined) > 1 << 16:
                    self._joined.clear()
                self._joined[together] = self._decode([self._anchor, *together])[self._lead :]
            if "\ufffd" not in self._joined[together] and self._joined[together]:
                return count, self._joined[together]
        return 1, first


def split(text: str, owner: list[int]) -> Words:
    """The words of a text. owner: per character, the position of the token that it came from."""
    ends = _sentence_ends(text)
    texts, first, last, sentence, opens = [], [], [], [], []
    used: list[int] = []
    next_end, before = 0, -1
    for match in _WORD.finditer(text):
        while next_end < len(ends) and ends[next_end][0] <= match.start():
            next_end += 1
        if next_end != before:
            used.append(next_end)
        texts.append(match.group())
        first.append(owner[match.start()])
        last.append(owner[match.end() - 1])
        opens.append(next_end != before)
        sentence.append(len(used) - 1)
        before = next_end
    asks = [number < len(ends) and ends[number][1] for number in used]
    return Words(texts, first, last, sentence, asks, opens)


def _sentence_ends(text: str) -> list[tuple[int, bool]]:
    """(position, whether it is a question mark) of each mark that ends a sentence; not of those after initials and
    abbreviations."""
    ends = []
    for match in _END.finditer(text):
        mark = match.group()
        if mark[0] == ".":
            word = re.search(r"(\w+)$", text[max(0, match.start() - 12) : match.start()])
            if word and (len(word[1]) == 1 or word[1].lower() in _ABBREVIATIONS) and match.end() < len(text):
                continue
        ends.append((match.start() + 1, mark[0] in "?？"))
    return ends


def _user_frame(tokenizer: Any) -> tuple[list[int], int | None]:
    """The token ids before a user's words in the chat template, and the token after them; ([], None) without a usable
    template."""
    if not getattr(tokenizer, "chat_template", None):
        return [], None
    word = "zyx"
    try:
        messages = [{"role": r, "content": c} for r, c in (("user", "one"), ("assistant", "two"), ("user", word))]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception:  # templates may refuse these roles in many ways; chats are then read as plain text
        return [], None
    at = text.rfind(word)
    if at < 0:
        return [], None
    before = tokenizer(text[:at], add_special_tokens=False)["input_ids"]
    behind = tokenizer(text[at + len(word) :], add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids) | set(getattr(tokenizer, "added_tokens_decoder", {}))
    starts = [i for i, token in enumerate(before) if token in special]
    if not starts or not behind:
        return [], None
    header = before[starts[-1] :]
    if len(header) == 1 and len(starts) > 1 and starts[-2] >= len(before) - 5:
        header = before[starts[-2] :]  # "<start>user<end>": the role is between two special tokens
    while header and len(header) > 1 and not tokenizer.decode([header[-1]]).strip():
        header = header[:-1]  # a blank or line break may merge with the user's words
    return header, behind[0]
