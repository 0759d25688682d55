"""A chat template for base models, whose tokenizers have none: "Question: ..." and "Answer:", each on a line of its own."""

from __future__ import annotations

import copy
from typing import Any

_QUESTIONS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}Question: {{ m['content'] | trim }}\n"
    "{% elif m['role'] == 'assistant' %}Answer:\n{{ m['content'] | trim }}{{ eos_token }}\n\n"
    "{% else %}{{ m['content'] | trim }}\n\n{% endif %}{% endfor %}{% if add_generation_prompt %}Answer:\n{% endif %}"
)


def with_questions(tokenizer: Any) -> Any:
    """A copy of a tokenizer, with this chat template in the place of its own. It begins with BOS if the tokenizer's texts do, and an answer ends with the
    end of text, which is a token that base models know.

    Raises:
        ValueError: the tokenizer has no end of text.
    """
    if tokenizer.eos_token is None:
        raise ValueError(
            "question_template: this tokenizer has no end of text (eos_token) for an answer to end with; set one, or use plain text"
        )
    begins = tokenizer.bos_token_id is not None and list(tokenizer("a")["input_ids"])[:1] == [tokenizer.bos_token_id]
    made = copy.copy(tokenizer)
    made.chat_template = ("{{ bos_token }}" if begins else "") + _QUESTIONS
    return made
