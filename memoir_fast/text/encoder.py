"""From a prompt and its target to the token sequences that an edit is trained on (MEMOIR, section 3; method of WISE)."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Sequence:
    """Tokens of one text, with the roles of its parts.

    Attributes:
        tokens: ids of prompt and target.
        prompt_length: the first target token's position; BOS counts as a prompt token.
        words: (start, end) positions of the tokens that route: the whole prompt, or a chat's user words.
    """

    tokens: list[int]
    prompt_length: int
    words: tuple[int, int]

    @property
    def prompt_mask(self) -> list[bool]:
        return [self.words[0] <= position < self.words[1] for position in range(len(self.tokens))]


class Encoder:
    """Texts to tokens, the same way for editing, measuring and asking.

    Args:
        tokenizer: a Hugging Face tokenizer.
        chat_template: prompts are a user's words, rendered by the tokenizer's chat template.
        max_length: the model's context length in tokens, or None.
    """

    def __init__(self, tokenizer, chat_template: bool = False, max_length: int | None = None):
        if chat_template and not getattr(tokenizer, "chat_template", None):
            raise ValueError("chat_template: this tokenizer has no chat template; use chat_template=False")
        self.tokenizer, self.chat_template, self.max_length = tokenizer, chat_template, max_length

    def prompt(self, prompt: str) -> Sequence:
        """A query: the prompt alone."""
        if not isinstance(prompt, str):
            raise TypeError(f"prompt must be text, got {type(prompt).__name__}")
        if self.chat_template:
            return self.chat([{"role": "user", "content": prompt}])
        tokens = self.tokenizer(prompt)["input_ids"]
        if not tokens:
            raise ValueError("prompt is empty: it gives no token")
        return self._checked(Sequence(tokens, len(tokens), (0, len(tokens))), "prompt")

    def chat(self, messages: list[dict]) -> Sequence:
        """A conversation that the assistant is to continue; it routes on the words of the last user message."""
        users = [m["content"] for m in messages if m.get("role") == "user"]
        if not users or not isinstance(users[-1], str) or not users[-1].strip():
            raise ValueError("messages: the last user message must be text and not empty")
        text = self._render(messages)
        start = text.rfind(users[-1].strip())
        if start < 0:
            raise ValueError("messages: the chat template changes the user's words, so their tokens cannot be found")
        end = start + len(users[-1].strip())
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        inside = [i for i, (a, b) in enumerate(encoded["offset_mapping"]) if a < end and b > start]
        tokens = encoded["input_ids"]
        return self._checked(Sequence(tokens, len(tokens), (inside[0], inside[-1] + 1)), "messages")

    def pair(self, prompt: str, target: str, context: str = "") -> Sequence:
        """`context prompt target`, with the target's tokens told apart from the prompt's.

        Raises:
            ValueError: the prompt's tokens are not the first tokens of the whole (so no position starts the target),
                no target token is left, or the whole is longer than the model's context.
        """
        asked = self.prompt(f"{context} {prompt}" if context else prompt)
        if self.chat_template:
            rendered = self._render([{"role": "user", "content": f"{context} {prompt}" if context else prompt}])
            whole = self.tokenizer(rendered + target, add_special_tokens=False)["input_ids"]
        else:
            whole = self.tokenizer(f"{context} {prompt} {target}" if context else f"{prompt} {target}")["input_ids"]
        length = asked.prompt_length
        if whole[:length] != asked.tokens:
            raise ValueError(
                f"prompt {_short(prompt)} is not a token prefix of prompt + target: the tokenizer merges its end with "
                "the target; end the prompt at a word (no trailing space)"
            )
        if len(whole) == length:
            raise ValueError(f"target {_short(target)} adds no token to the prompt: nothing could be learned")
        return self._checked(Sequence(whole, length, asked.words), "prompt and target")

    def _render(self, messages: list[dict]) -> str:
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _checked(self, sequence: Sequence, name: str) -> Sequence:
        if self.max_length is not None and len(sequence.tokens) > self.max_length:
            raise ValueError(
                f"{name}: {len(sequence.tokens)} tokens, but the model's context holds {self.max_length}: shorten the text"
            )
        return sequence


@dataclass(frozen=True)
class Batch:
    """Sequences as one right-padded batch.

    Attributes:
        input_ids: (B, T) int64. Padding stands on the right, where a causal model never looks at it.
        attention_mask: (B, T) int64, 1 for real tokens.
        prompt_mask: (B, T) bool, the tokens that route.
        labels: (B, T) int64, the target's tokens at the positions that predict them, elsewhere -100.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    prompt_mask: torch.Tensor
    labels: torch.Tensor


def pad(sequences: list[Sequence], device="cpu") -> Batch:
    """The sequences as a batch; pad tokens have id 0."""
    shape = len(sequences), max(len(s.tokens) for s in sequences)
    input_ids = torch.zeros(shape, dtype=torch.int64)
    attention_mask = torch.zeros(shape, dtype=torch.int64)
    prompt_mask = torch.zeros(shape, dtype=torch.bool)
    labels = torch.full(shape, -100, dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        length = len(sequence.tokens)
        input_ids[row, :length] = torch.tensor(sequence.tokens)
        attention_mask[row, :length] = 1
        prompt_mask[row, :length] = torch.tensor(sequence.prompt_mask)
        labels[row, sequence.prompt_length - 1 : length - 1] = torch.tensor(sequence.tokens[sequence.prompt_length :])
    return Batch(*(t.to(device) for t in (input_ids, attention_mask, prompt_mask, labels)))


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
