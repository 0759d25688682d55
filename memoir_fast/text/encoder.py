"""Turns texts into tokens, the same way for editing, measuring, asking and serving: as plain text or through a chat
template.

The user's words are not searched for in a rendered chat, since they may occur in it elsewhere too. Their place is found
by rendering the same chat with a placeholder instead. What a template puts before and after an answer is found the same
way.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple

from ..config import ENDS, MemoirConfig
from .batch import Batch, Sequence, pad
from .located import PLACEHOLDERS, Rendered, covering, locate
from .messages import checked_messages
from .messages import short as _short
from .templates import with_questions

__all__ = ["ENDS", "Batch", "Encoder", "Sequence", "automatic_joiner", "pad"]

# Known template options that put something (a thinking block) between the question and the answer.
_SWITCHES = ({"enable_thinking": True}, {"enable_thinking": False}, {"thinking": True}, {"thinking": False})
_RESERVED = ("tokenize", "add_generation_prompt", "continue_final_message", "return_dict", "return_tensors", "padding")
# How the Unicode names of letters begin in scripts written without blanks between words. (Korean has blanks.)
_UNSPACED = tuple("CJK |HIRAGANA|KATAKANA|BOPOMOFO|THAI |LAO |KHMER|MYANMAR|TIBETAN|FULLWIDTH|IDEOGRAPHIC".split("|"))


class _Answer(NamedTuple):
    """What a template puts around an answer: `lead` before it and `end` after it.

    `block` is the text between the question and a finished answer, if it differs from what generation starts with (an
    empty thinking block); otherwise None.
    """

    lead: str = ""
    end: str = ""
    block: str | None = None


class Encoder:
    """Turns texts into token sequences.

    Args:
        tokenizer: a Hugging Face tokenizer.
        chat_template: None uses the tokenizer's chat template if it has one; False means plain text; True requires a
            template.
        max_length: the model's context length in tokens, or None.
        end: what an answer ends with. "auto": in a chat the end of turn that the template puts after an answer, in
            plain text the end of text; "eos": the end of text; "none": nothing.
        joiner: what stands between a plain prompt and its target. "auto": one space, or nothing after an opening quote
            or bracket, a hyphen or a currency sign and in scripts written without spaces. Any other value is used as it
            is.
        template_options: passed to the template (enable_thinking, date_string, tools, ...). "system" becomes the system
            message of chats that have none.
        variants: for `pairs`, changes of `template_options` under which the answer must be given too; None tries the
            known switches.
        stops: token ids at which the model's own generation stops (its generation config's `eos_token_id`).
        questions: put prompts into the library's own chat template, see `templates.py`; the tokenizer stays as it is.

    Raises:
        TypeError, ValueError: an argument is not accepted, or the tokenizer lacks what it asks for.

    Attributes:
        tokenizer: the tokenizer, or with `questions` a copy with the template.
        is_chat: whether prompts go through the chat template.
        end_ids: the tokens that an answer ends with.
        stops: the tokens at which asking, streaming and serving must stop.
    """

    def __init__(self, tokenizer: Any, chat_template: bool | None = None, max_length: int | None = None, end: str = "auto",
                 joiner: str = "auto", template_options: dict | None = None, variants: list[dict] | None = None,
                 stops: int | Iterable[int] | None = (), questions: bool = False):  # fmt: skip
        if chat_template not in (None, True, False):
            raise ValueError(f"chat_template must be None (auto), True or False, got {chat_template!r}")
        if questions and chat_template is False:
            raise ValueError("questions is a chat template of its own: chat_template must not be False beside it")
        if questions:
            tokenizer = with_questions(tokenizer)
        has = bool(getattr(tokenizer, "chat_template", None))
        if chat_template and not has:
            raise ValueError(
                "chat_template: this tokenizer has no chat template; use chat_template=None or False, or question_template=True"
            )
        if end not in ENDS:
            raise ValueError(f"end must be one of {ENDS}, got {end!r}")
        if not isinstance(joiner, str):
            raise TypeError(f'joiner must be "auto" or the text between prompt and target, got {joiner!r}')
        options = dict(template_options or {})
        for name in _RESERVED:
            if name in options:
                raise ValueError(f"template_options: {name!r} is set by the encoder itself; leave it out")
        self.tokenizer, self.max_length, self.joiner, self.end = tokenizer, max_length, joiner, end
        self.is_chat = has if chat_template is None else chat_template
        self.template_options, self.variants = options, variants
        self._answers: dict[str, _Answer] = {}
        eos = tokenizer.eos_token_id
        given = [stops] if isinstance(stops, int) else list(stops or ())
        self._enders = {*given, *([] if eos is None else [eos])}
        self.end_ids = self._end_ids()
        self.stops = tuple(sorted({*given, *self.end_ids[-1:]} or self._enders))

    @classmethod
    def of(cls, model: Any, tokenizer: Any, config: MemoirConfig) -> Encoder:
        """The encoder for a model, with its context length and end tokens, and for a memory's settings."""
        limit = getattr(model.config, "max_position_embeddings", None)
        stops = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
        return cls(
            tokenizer, config.chat_template, limit, config.end, config.joiner, config.template_options, stops=stops,
            questions=config.question_template,
        )  # fmt: skip

    def prompt(self, prompt: str) -> Sequence:
        """A query: the prompt alone, without outer blanks. Raises TypeError or ValueError if it is empty or too
        long."""
        prompt = _stripped(prompt, "prompt")
        if self.is_chat:
            return self.chat([{"role": "user", "content": prompt}])
        tokens = self._plain(prompt)
        return self._checked(Sequence(tokens, len(tokens), (0, len(tokens))), "prompt")

    def chat(self, messages: list[dict]) -> Sequence:
        """A conversation for the assistant to continue. The last user message is what edits are found by.

        Raises:
            TypeError, ValueError: as `checked_messages`, or the template refuses the messages, or they are too long.
        """
        rendered = self._render(checked_messages(messages), self.template_options)
        tokens, words = self._located(rendered)
        return self._checked(Sequence(tokens, len(tokens), words), "messages")

    def pair(self, prompt: str, target: str, context: str = "", ended: bool = True) -> Sequence:
        """`context prompt target end` as tokens; without `ended`, no end.

        The prompt's tokens are exactly those of the query; the target's are those that the tokenizer makes of the text
        after the prompt.

        Raises:
            TypeError: a text is not text.
            ValueError: a text is empty, the target gives no token or contains the token that ends answers, or the whole
                is longer than the model's context.
        """
        prompt, target = _stripped(prompt, "prompt"), _stripped(target, "target")
        asked = f"{context} {prompt}" if context.strip() else prompt
        if not self.is_chat:
            query = self.prompt(asked)
            return self._joined(query, asked, self.joiner_of(asked, target) + target, target, ended)
        rendered = self._render([{"role": "user", "content": asked}], self.template_options)
        return self._chat_pair(rendered, target, self._answer(self.template_options), ended)

    def pairs(self, prompt: str, target: str, context: str = "") -> list[Sequence]:
        """`pair`, and one more for each variant of the template that puts something else between question and
        answer."""
        first = self.pair(prompt, target, context)
        if not self.is_chat:
            return [first]
        prompt, target = prompt.strip(), target.strip()
        messages = [{"role": "user", "content": f"{context} {prompt}" if context.strip() else prompt}]
        found = [first]
        for options, block in self._variants:
            rendered = self._render(messages, options)
            if block is not None:
                rendered = Rendered(rendered.text[: rendered.end] + block, rendered.start, rendered.end)
            found.append(self._chat_pair(rendered, target, _Answer(end=self._answer(options).end)))
        return found

    def joiner_of(self, prompt: str, target: str) -> str:
        """What goes between this prompt and this target in plain text."""
        return automatic_joiner(prompt.strip(), target.strip()) if self.joiner == "auto" else self.joiner

    def _chat_pair(self, rendered: Rendered, target: str, answer: _Answer, ended: bool = True) -> Sequence:
        tokens, words = self._located(rendered)
        query = Sequence(tokens, len(tokens), words)
        return self._joined(query, rendered.text, answer.lead + target, target, ended, special=False)

    def _joined(
        self, query: Sequence, text: str, rest: str, target: str, ended: bool, special: bool = True
    ) -> Sequence:
        """The query's tokens, then those of `rest` when it follows `text`, then the end."""
        length = query.prompt_length
        whole = self._plain(text + rest) if special else self._raw(text + rest)
        answer = whole[length:] if whole[:length] == query.tokens else self._continuation(rest)
        if not answer:
            raise ValueError(f"target {_short(target)} adds no token to the prompt: nothing could be learned")
        if self.end_ids and self.end_ids[-1] in answer:
            end = self.tokenizer.decode(self.end_ids[-1:])
            raise ValueError(f"target {_short(target)} holds {end!r}, at which generation stops: leave it out")
        return self._checked(
            Sequence(query.tokens + answer + (self.end_ids if ended else []), length, query.words), "prompt and target"
        )

    def _continuation(self, rest: str) -> list[int]:
        """Tokens of a text in mid-sequence, when the tokenizer would merge its beginning with what comes before it."""
        for anchor in ("\n", ".", "a"):  # a tokenizer that marks a text's beginning then marks the anchor, not `rest`
            before, whole = self._raw(anchor), self._raw(anchor + rest)
            if whole[: len(before)] == before:
                return whole[len(before) :]
        return self._raw(rest)

    def _raw(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _plain(self, text: str) -> list[int]:
        """A text's tokens as its model reads them: with BOS if the tokenizer adds one, without EOS."""
        front, behind = self._edges
        tokens = list(self.tokenizer(text)["input_ids"])
        tokens = tokens[: len(tokens) - behind]
        if len(tokens) <= front:
            raise ValueError(f"prompt {_short(text)} gives no token: give the text to ask")
        return tokens

    @cached_property
    def _edges(self) -> tuple[int, int]:
        """How many tokens the tokenizer adds before and after a text."""
        bare, full = self._raw("a"), list(self.tokenizer("a")["input_ids"])
        front = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
        return front, len(full) - len(bare) - front

    def _apply(self, messages: list[dict], options: dict, start: bool) -> str:
        """A chat's text; with `start`, up to where the assistant's answer begins."""
        options = dict(options)
        system = options.pop("system", None)
        if system and not any(m["role"] in ("system", "developer") for m in messages):
            messages = [{"role": "system", "content": system}, *messages]
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=start, **options)
        except Exception as error:  # jinja2's own, and whatever a template raises
            raise ValueError(
                f"messages: the chat template refuses them ({type(error).__name__}: {error}); change the messages' roles or "
                f"template_options, which are {self.template_options!r}"
            ) from error

    def _render(self, messages: list[dict], options: dict) -> Rendered:
        """The chat's text, and where the last user's words stand in it."""
        return locate(lambda chat: self._apply(chat, options, True), messages)

    def _located(self, rendered: Rendered) -> tuple[list[int], tuple[int, int]]:
        """The tokens of a rendered chat, and the (start, end) of those that hold a character of the user's words."""
        try:
            encoded = self.tokenizer(rendered.text, add_special_tokens=False, return_offsets_mapping=True)
        except NotImplementedError:
            return self._located_without_offsets(rendered)
        tokens, offsets = encoded["input_ids"], encoded["offset_mapping"]
        words = covering(offsets, rendered.start, rendered.end)
        if words is None:
            raise ValueError("messages: the tokenizer gives the last user message no token: give the text to ask")
        return list(tokens), words

    def _located_without_offsets(self, rendered: Rendered) -> tuple[list[int], tuple[int, int]]:
        """The same for tokenizers without offsets: the tokens that change when the words are replaced by
        placeholders."""
        tokens = self._raw(rendered.text)
        head, tail = rendered.text[: rendered.start], rendered.text[rendered.end :]
        others = [self._raw(head + mark + tail) for mark in PLACEHOLDERS]
        start = min(_common(tokens, other) for other in others)
        behind = min(_common(tokens[::-1], other[::-1]) for other in others)
        return tokens, (start, max(start + 1, len(tokens) - behind))

    def _answer(self, options: dict) -> _Answer:
        """The template's `_Answer` under some options, found by rendering a finished answer."""
        key = repr(options)
        if key not in self._answers:
            self._answers[key] = self._find_answer(options)
        return self._answers[key]

    def _find_answer(self, options: dict) -> _Answer:
        asked, answered = PLACEHOLDERS
        user = {"role": "user", "content": asked}
        tail = self._apply([user], options, True).rpartition(asked)[2]
        try:
            whole = self._apply([user, {"role": "assistant", "content": answered}], options, False)
        except ValueError:  # the template accepts no finished answers
            return _Answer()
        front, found, end = whole.rpartition(answered)
        between = front.rpartition(asked)[2]
        if not found:
            return _Answer()
        extra = between[len(tail) :] if between.startswith(tail) else between
        return _Answer(lead=extra, end=end) if not extra.strip() else _Answer(end=end, block=between)

    @cached_property
    def _variants(self) -> list[tuple[dict, str | None]]:
        """(options, block) of each variant with a new text between question and answer; block None: the one that
        options give."""
        user = [{"role": "user", "content": PLACEHOLDERS[0]}]
        tails = {self._tail(user, self.template_options)}
        found: list[tuple[dict, str | None]] = []
        for change in _SWITCHES if self.variants is None else self.variants:
            options = {**self.template_options, **change}
            try:
                tail = self._tail(user, options)
            except ValueError:
                continue
            if tail not in tails:
                tails.add(tail)
                found.append((options, None))
        block = self._answer(self.template_options).block
        if self.variants is None and block is not None and block not in tails:
            found.append((self.template_options, block))
        return found

    def _tail(self, messages: list[dict], options: dict) -> str:
        """What the template puts between the user's words and the answer."""
        rendered = self._render(messages, options)
        return rendered.text[rendered.end :]

    def _end_ids(self) -> list[int]:
        """The tokens that an answer ends with, up to the first that is special or stops generation."""
        eos = self.tokenizer.eos_token_id
        if self.end == "none":
            return []
        if self.end == "eos" and eos is None:
            raise ValueError('end="eos": this tokenizer has no end-of-text token; use end="none"')
        if self.is_chat and self.end == "auto":
            # Tokenised after other text, so that a tokenizer that marks a text's beginning does not mark the end.
            behind = self._continuation(self._answer(self.template_options).end)
            special = self._enders.union(self.tokenizer.all_special_ids, _special_ids(self.tokenizer))
            for number, token in enumerate(behind):
                if token in special:
                    return behind[: number + 1]
        return [] if eos is None else [eos]

    def _checked(self, sequence: Sequence, name: str) -> Sequence:
        if self.max_length is not None and len(sequence.tokens) > self.max_length:
            raise ValueError(
                f"{name}: {len(sequence.tokens)} tokens, but the model's context holds {self.max_length}: shorten the text"
            )
        return sequence


def automatic_joiner(prompt: str, target: str) -> str:
    """One space, or nothing after an opening quote or bracket, a hyphen or a currency sign, and in scripts without
    spaces."""
    last = prompt[-1:]
    if not last:
        return ""
    kind = unicodedata.category(last)
    if kind in ("Ps", "Pi", "Sc") or last in "-\u2010\u2011¿¡":
        return ""
    if last in "\"'`":
        before = prompt[-2:-1]
        opening = not before or before.isspace() or unicodedata.category(before) in ("Ps", "Pi")
        return "" if opening else " "
    if _is_unspaced(last):
        return ""
    letters = [c for c in prompt if c.isalpha()]
    follows = next((c for c in target if c.isalnum()), "")
    return "" if letters and _is_unspaced(letters[-1]) and _is_unspaced(follows) else " "


def _is_unspaced(character: str) -> bool:
    """Whether a letter or mark belongs to a script written without blanks between words."""
    return bool(character) and unicodedata.name(character, "").startswith(_UNSPACED)


def _special_ids(tokenizer: Any) -> set[int]:
    """All of the tokenizer's special tokens, including those without a named role (<|eot_id|>, <end_of_turn>)."""
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    return {number for number, token in added.items() if getattr(token, "special", False)}


def _stripped(text: str, name: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be text, got {type(text).__name__}")
    if not text.strip():
        raise ValueError(f"{name} is empty, got {text!r}: give the text")
    return text.strip()


def _common(one: list, other: list) -> int:
    """The length of two lists' common beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
